# Alerts on the sandbox service, if `sandbox_image` is set. They match log lines directly: the lines are rare, and a
# metric has no time series before the first one. An uptime check cannot reach the service from outside.

locals {
  # `messages` lists log messages of the gateway; a test compares them with the code.
  sandbox_alerts = {
    away = {
      title    = "The sandbox service ends or does not start"
      service  = "sandbox"
      log      = "logName=\"projects/${var.project_id}/logs/run.googleapis.com%2Fvarlog%2Fsystem\" AND severity>=ERROR"
      messages = []
      help     = <<-EOT
        Cloud Run had to end an instance, or could not start one: the line says whether memory (sandbox_memory_gib),
        the start or the health check was the reason. What ran there is lost; the next call starts anew.
      EOT
    }
    unavailable = {
      title    = "No sandbox can be started"
      service  = "ws"
      log      = "jsonPayload.message=\"call\" AND jsonPayload.outcome=\"sandbox_unavailable\""
      messages = []
      help     = <<-EOT
        The sandbox service runs, but its self-test of bubblewrap failed: its log says what is missing. Look at the
        image, and whether the execution environment is generation 2.
      EOT
    }
    unreachable = {
      title    = "The companion cannot reach the sandbox service"
      service  = "ws"
      log      = null
      messages = ["sandbox service cannot be reached"]
      help     = <<-EOT
        Commands, terminals, MCP servers that are programs, and Codex are answered with 503. Look at the error of
        the line, at the instances of the service sandbox, and at the networks gateway-ws and gateway-sandbox.
      EOT
    }
  }
}

resource "google_monitoring_alert_policy" "sandbox" {
  for_each              = { for name, alert in local.sandbox_alerts : name => alert if var.sandbox_image != null }
  display_name          = "Codex Gateway: ${each.value.title}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notifications
  conditions {
    display_name = each.value.title
    condition_matched_log {
      filter = join(" AND ", [
        "resource.type=\"cloud_run_revision\"",
        "resource.labels.service_name=\"${each.value.service}\"",
        each.value.log == null ? "jsonPayload.message=(${join(
          " OR ", [for message in each.value.messages : "\"${message}\""]
        )})" : each.value.log,
      ])
    }
  }
  documentation {
    content = each.value.help
  }
  alert_strategy {
    auto_close = "1800s"
    # A policy that matches log lines requires a rate limit of notifications.
    notification_rate_limit {
      period = "3600s"
    }
  }
  depends_on = [time_sleep.apis]
}
