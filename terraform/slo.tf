# The availability objective, and alerts on the rate at which its error budget is used: a fast one, when five minutes of
# failures have used two hours of the budget, and a slow one, when failures are few but continue. An alert on a fixed
# share of 5xx would miss the latter, and would fire for a single failure of a gateway with few calls.

locals {
  # The services that callers use. health is called mainly by probes; deployments and sandbox have no external callers.
  objective_services = concat(["jsonrpc", "webhook"], var.companion.enabled ? ["ws"] : [])
  caller_requests = join(" AND ", [
    "resource.type = \"cloud_run_revision\"",
    "metric.type = \"run.googleapis.com/request_count\"",
    "resource.labels.service_name = one_of(${join(", ", [for name in local.objective_services : "\"${name}\""])})",
  ])
  # https://sre.google/workbook/alerting-on-slos: at a burn rate of 1, the budget is used up in exactly 28 days.
  burn_rates = {
    fast = { title = "Callers get errors now", burn = 14.4, long = "3600s", short = "300s", severity = "CRITICAL" }
    slow = { title = "Callers get errors for hours", burn = 6, long = "21600s", short = "1800s", severity = "ERROR" }
  }
}

resource "google_monitoring_custom_service" "gateway" {
  service_id   = "codex-gateway"
  display_name = "Codex Gateway"
  depends_on   = [time_sleep.apis]
}

resource "google_monitoring_slo" "availability" {
  service             = google_monitoring_custom_service.gateway.service_id
  slo_id              = "availability"
  display_name        = "Requests of callers without 5xx, over 28 days"
  goal                = var.availability_goal
  rolling_period_days = 28

  request_based_sli {
    good_total_ratio {
      total_service_filter = local.caller_requests
      bad_service_filter   = "${local.caller_requests} AND metric.labels.response_code_class = \"5xx\""
    }
  }
}

resource "google_monitoring_alert_policy" "burn_rate" {
  for_each     = local.burn_rates
  display_name = "Codex Gateway: ${each.value.title}"
  # The long window shows that the failures matter, the short window that they have not ended, and the third condition
  # that there is more than one.
  combiner              = "AND"
  severity              = each.value.severity
  notification_channels = local.notifications

  dynamic "conditions" {
    for_each = { long = each.value.long, short = each.value.short }
    content {
      display_name = "error budget is used ${each.value.burn} times too fast, ${conditions.key} window"
      condition_threshold {
        filter = join("", [
          "select_slo_burn_rate(\"${google_monitoring_slo.availability.name}\", \"${conditions.value}\")",
        ])
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.burn
        duration        = "0s"
      }
    }
  }
  conditions {
    display_name = "more than 5 requests failed in the long window"
    condition_threshold {
      filter          = "${local.caller_requests} AND metric.labels.response_code_class = \"5xx\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "0s"
      aggregations {
        alignment_period     = each.value.long
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
  documentation {
    content = <<-EOT
      Masked failures are ERROR lines with a request id: resource.labels.service_name=(...) AND severity>=ERROR. 503
      comes with the dependency that is down: the method system.health, with a key of the scope admin, names it.
    EOT
  }
  alert_strategy {
    auto_close = "1800s"
  }
}
