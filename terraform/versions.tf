# Versions of Terraform and the providers, and the identity that the providers use. State is local until init.sh has
# moved it into a bucket (OPERATIONS.md, which also describes how the lock file is created).

terraform {
  # Terraform 1.11 has write-only arguments, which keep secret values out of the plan and the state.
  required_version = ">= 1.11.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.40.0, < 8.0.0"
    }
    # Used only for source deployments of Cloud Run and for service identities, which the GA provider does not support.
    google-beta = {
      source  = "hashicorp/google-beta"
      version = ">= 7.40.0, < 8.0.0"
    }
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.7"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.13"
    }
  }
}

# Several APIs (budgets, Firebase rules) charge quota to a project; with this setting it is this project, also with the
# credentials of a user.
provider "google" {
  project               = var.project_id
  region                = var.region
  billing_project       = var.project_id
  user_project_override = true
  default_labels        = { app = "codex-gateway" }
}

provider "google-beta" {
  project               = var.project_id
  region                = var.region
  billing_project       = var.project_id
  user_project_override = true
  default_labels        = { app = "codex-gateway" }
}
