# The sweeper: once a minute the deployments function publishes what was recorded and could not be published at once. It
# sweeps because Cloud Run checks its invokers, and everybody may invoke webhook.

# Whose tokens the job carries; it may do nothing else.
resource "google_service_account" "sweeper" {
  account_id   = "gateway-sweeper"
  display_name = "Codex Gateway: sweeper"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_scheduler_job" "sweep" {
  name        = "gateway-sweep"
  region      = var.region
  description = "Publishes webhook events that are still in the outbox"
  schedule    = "* * * * *"
  # A sweep takes up no event after 40 s.
  attempt_deadline = "60s"
  # The next minute is the retry.
  retry_config {
    retry_count = 0
  }

  http_target {
    # The run.app address: by that one Scheduler counts as internal.
    uri         = "${local.service_urls.deployments}/sweep"
    http_method = "POST"
    oidc_token {
      service_account_email = google_service_account.sweeper.email
      audience              = local.service_urls.deployments
    }
  }
  depends_on = [time_sleep.apis]
}
