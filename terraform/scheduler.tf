# The sweeper: once a minute, the deployments function publishes recorded events that could not be published
# immediately, and erases expired sessions. It is this function because Cloud Run checks its invokers, while everyone
# may invoke webhook.

# The account whose ID tokens the requests of the job contain. It has no role.
resource "google_service_account" "sweeper" {
  account_id   = "gateway-sweeper"
  display_name = "Codex Gateway: sweeper"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_scheduler_job" "sweep" {
  name        = "gateway-sweep"
  region      = var.region
  description = "Publishes webhook events that are still in the outbox, and erases expired sessions"
  schedule    = "* * * * *"
  # A sweep starts no further event after 40 s.
  attempt_deadline = "60s"
  # Not retried, because the next run follows within a minute.
  retry_config {
    retry_count = 0
  }

  http_target {
    # The run.app address, because only for it requests of Cloud Scheduler count as internal.
    uri         = "${local.service_urls.deployments}/sweep"
    http_method = "POST"
    oidc_token {
      service_account_email = google_service_account.sweeper.email
      audience              = local.service_urls.deployments
    }
  }
  depends_on = [time_sleep.apis]
}
