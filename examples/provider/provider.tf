terraform {
  required_version = ">= 1.5"

  required_providers {
    btar = {
      source  = "btar/btar"
      version = "~> 0.1"
    }
  }
}

# The API token comes from the environment variable AIVEN_TOKEN.
provider "btar" {
  # Aiven's own API is the default. For `btar serve`:
  # api_url = "http://127.0.0.1:8787"
}
