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

# The check of /health uses no dependency, because everyone may call it. This one reads from the database, with the
# identity of Cloud Monitoring, so that no secret is in the state. With a domain, deployments is internal and uptime
# checks cannot reach it.
locals {
  database_checked = var.domain == null
}

resource "google_monitoring_uptime_check_config" "database" {
  count        = local.database_checked ? 1 : 0
  display_name = "Codex Gateway: database"
  timeout      = "10s"
  period       = "60s"
  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
    service_agent_authentication {
      type = "OIDC_TOKEN"
    }
  }
  content_matchers {
    content = "\"healthy\""
  }
  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      # The audience of the token is this host.
      host = trimprefix(local.service_urls.deployments, "https://")
    }
  }
  # A request without the grant would be counted as an outage.
  depends_on = [google_cloud_run_v2_service_iam_member.invoker]
}

locals {
  uptime_alerts = merge(
    { for check in google_monitoring_uptime_check_config.health : "health" => {
      check_id = check.uptime_check_id
      name     = "not reachable"
      means    = "GET https://${local.host}/health is not answered with healthy."
    } },
    { for check in google_monitoring_uptime_check_config.database : "database" => {
      check_id = check.uptime_check_id
      name     = "database not reachable"
      means    = "The deployments function cannot read from the database; callers of jsonrpc get 503."
    } },
  )
}

resource "google_monitoring_alert_policy" "uptime" {
  for_each              = local.uptime_alerts
  display_name          = "Codex Gateway: ${each.value.name}"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.notifications
  conditions {
    display_name = "${each.key} check fails from two regions"
    condition_threshold {
      filter = join(" AND ", [
        "resource.type = \"uptime_url\"",
        "metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\"",
        "metric.labels.check_id = \"${each.value.check_id}\"",
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
    content = each.value.means
  }
}

# The sweep uses the database every minute and answers 2xx only if that works. Its failures raise an alert of
# `thresholds` (monitoring.tf). This alert is raised when no sweep succeeds for 15 minutes, for example because the job
# is paused or its token is refused. A deployment takes less time, so it raises no alert.
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
