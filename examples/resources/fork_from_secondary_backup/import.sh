# PROJECT/SERVICE_NAME of the fork.
terraform import fork_from_secondary_backup.latest shop/orders-dr
