# The registry of the images, and the account that builds them: the functions (by buildpacks) and the container of the
# sandbox service.

resource "google_service_account" "build" {
  account_id   = "gateway-build"
  display_name = "Codex Gateway: builds"
  depends_on   = [time_sleep.apis]
}

resource "google_artifact_registry_repository" "gateway" {
  repository_id = "gateway"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the functions and of the sandbox service"

  # Every deployment creates an image. The newest five of each are kept, so that a rollback finds its image.
  cleanup_policy_dry_run = false
  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "604800s"
    }
  }

  depends_on = [time_sleep.apis]
}

resource "google_artifact_registry_repository_iam_member" "build" {
  location   = google_artifact_registry_repository.gateway.location
  repository = google_artifact_registry_repository.gateway.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

# Cloud Functions copies the source into its own bucket, whose name has this prefix, and builds from there.
resource "google_project_iam_member" "build_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member
  condition {
    title      = "function sources only"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }
}

resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}

resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

# The companion has no image: Cloud Run reads its archive from the bucket.
resource "google_storage_bucket_iam_member" "run" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_project_service_identity.run.member
}
