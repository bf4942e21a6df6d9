# `terraform test` makes the fork, asks it, and destroys it, whatever the outcome.

run "fork" {
  assert {
    condition     = output.fork.restore_status == "complete"
    error_message = "The restore is not complete."
  }

  assert {
    condition     = output.fork.base_backup_name != null && output.fork.recovered_to != null
    error_message = "Nobody can tell what the fork holds."
  }
}

run "query" {
  module {
    source = "./query"
  }

  variables {
    fork = run.fork.fork
  }
}
