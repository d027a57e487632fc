# The APIs the gateway uses. They stay enabled on destroy: something else in the project may use them.

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

# An API answers "not enabled" for a while after it was enabled.
resource "time_sleep" "apis" {
  create_duration = "60s"
  triggers        = { apis = join(" ", sort([for api in google_project_service.api : api.service])) }
}

# Google's own accounts that act for the services. In a new project they exist only after a request, and a grant
# to an absent account fails.
resource "google_project_service_identity" "pubsub" {
  provider   = google-beta
  service    = "pubsub.googleapis.com"
  depends_on = [time_sleep.apis]
}

resource "google_project_service_identity" "run" {
  provider   = google-beta
  service    = "run.googleapis.com"
  depends_on = [time_sleep.apis]
}
