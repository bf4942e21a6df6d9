output "forks" {
  description = "Where the forks are, and what each of them holds."
  value = {
    for name, fork in fork_from_secondary_backup.this : name => {
      host             = fork.service_host
      port             = fork.service_port
      base_backup_name = fork.base_backup_name
      recovered_to     = fork.recovered_to
      restore_status   = fork.restore_status
    }
  }
}

output "uris" {
  description = "How to connect: terraform output -json uris"
  value       = { for name, fork in fork_from_secondary_backup.this : name => fork.service_uri }
  sensitive   = true
}
