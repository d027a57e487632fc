# Uptime checks of the gateway from outside.

# Without public access, IAM would refuse the requests of the checkers.
resource "google_monitoring_uptime_check_config" "health" {
  count        = var.public_access ? 1 : 0
  display_name = "Codex Gateway: health"
  timeout      = "10s"
  period       = "60s"
  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }
  content_matchers {
    content = "\"healthy\""
  }
  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = local.host
    }
  }
  depends_on = [time_sleep.apis]
}

resource "google_monitoring_alert_policy" "uptime" {
  count                 = var.public_access ? 1 : 0
  display_name          = "Codex Gateway: not reachable"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.notifications
  conditions {
    display_name = "health check fails from two regions"
    condition_threshold {
      filter = join(" AND ", [
        "resource.type = \"uptime_url\"",
        "metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\"",
        "metric.labels.check_id = \"${google_monitoring_uptime_check_config.health[0].uptime_check_id}\"",
      ])
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "120s"
      aggregations {
        alignment_period     = "120s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }
  documentation {
    content = "GET https://${local.host}/health is not answered with healthy."
  }
}
