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

# The check from outside touches no dependency: what does needs a key, which the check would keep in the state. From
# inside, the sweep uses the database every minute with an identity that needs no secret, and answers 2xx only when it
# could. Its failures are in `thresholds`; here, that it no longer comes: a job that is paused, a token that is refused.
# Once in 15 minutes is enough, so that a deployment is no incident.
resource "google_monitoring_alert_policy" "no_sweep" {
  display_name          = "Codex Gateway: no sweep has succeeded for 15 minutes"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notifications
  conditions {
    display_name = "no 2xx of the deployments function"
    condition_absent {
      filter = join(" AND ", [
        "resource.type = \"cloud_run_revision\"",
        "metric.type = \"run.googleapis.com/request_count\"",
        "resource.labels.service_name = \"deployments\"",
        "metric.labels.response_code_class = \"2xx\"",
      ])
      duration = "900s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
  documentation {
    content = <<-EOT
      Events that could not be published at once wait, and nothing shows whether the database can be used. Look at the
      job gateway-sweep in Cloud Scheduler, and at the log of the service deployments.
    EOT
  }
  alert_strategy {
    auto_close = "1800s"
  }
  depends_on = [time_sleep.apis]
}
