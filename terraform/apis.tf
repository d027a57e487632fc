# The APIs that the gateway uses. They stay enabled after a destroy, because other software in the project may use them.

locals {
  apis = toset(concat([
    "aiplatform",
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudkms",
    "cloudresourcemanager",
    "cloudscheduler",
    "firebaserules",
    "firestore",
    "iam",
    "iamcredentials",
    "logging",
    "monitoring",
    "pubsub",
    "run",
    "secretmanager",
    "storage",
    ],
    var.domain == null && var.sandbox_image == null ? [] : ["compute"],
    length(local.gateway_networks) == 0 ? [] : ["dns"],
    var.budget == null ? [] : ["billingbudgets"],
  ))
}

resource "google_project_service" "api" {
  for_each           = local.apis
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

# For a while after an API was enabled, calls of it still fail with "not enabled".
resource "time_sleep" "apis" {
  create_duration = "60s"
  triggers        = { apis = join(" ", sort([for api in google_project_service.api : api.service])) }
}

# Service agents: Google's accounts that act for the services. In a new project, they are created on request, and a
# grant to an account that does not exist fails.
resource "google_project_service_identity" "pubsub" {
  provider   = google-beta
  service    = "pubsub.googleapis.com"
  depends_on = [time_sleep.apis]
}

# Its tokens authenticate the uptime check of the database.
resource "google_project_service_identity" "monitoring" {
  provider   = google-beta
  service    = "monitoring.googleapis.com"
  depends_on = [time_sleep.apis]
}

resource "google_project_service_identity" "run" {
  provider   = google-beta
  service    = "run.googleapis.com"
  depends_on = [time_sleep.apis]
}
