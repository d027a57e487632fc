# The sweeper: once a minute the webhook function publishes what was recorded and could not be published at once.

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
    # The run.app address: by that one Scheduler counts as internal when the function is behind the load balancer.
    uri         = "${google_cloudfunctions2_function.function["webhook"].service_config[0].uri}/sweep"
    http_method = "POST"
    oidc_token {
      service_account_email = google_service_account.sweeper.email
      audience              = local.audiences.sweeper
    }
  }
}
