# Alerts for the operator: alert policies on the gateway's own log lines and on what Google measures.
# The texts are those the code logs; a test holds them together.

locals {
  services = sort(concat(keys(local.functions), ["ws"], var.sandbox_image == null ? [] : ["sandbox"]))
  gateway_logs = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(
    " OR ", [for name in local.services : "\"${name}\""]
  )})"
  notifications = [for channel in google_monitoring_notification_channel.email : channel.id]

  # Lines that need attention. Each becomes a metric and an alert policy.
  signals = {
    limiter_degraded = {
      title    = "Rate limiter degraded"
      messages = ["rate limiter store unavailable", "rate limiter transaction failed"]
      help     = <<-EOT
        Instances cannot reach the limiter's documents: cheap reads are answered from a small bucket for 60 s,
        everything else with 503. Look at Firestore's status and at the error of the line.
      EOT
    }
    lease_expired = {
      title    = "Turns left to their lease"
      messages = ["turn could not be settled; its lease will expire", "turn ended for an owner that did not answer"]
      help     = <<-EOT
        An instance died in mid-turn, or could not write the end of a turn; the session is usable again within
        45 s, its turn ends as interrupted. A series means that Firestore refuses writes: look at the error of
        the line.
      EOT
    }
    events_stuck = {
      title    = "Events given up"
      messages = ["event given up: still unpublished after its lifetime"]
      help     = <<-EOT
        An acknowledged event was not published within 30 days. It is still in the collection events: publish it
        by hand, and find out why the sweeper could not.
      EOT
    }
    keys_unreadable = {
      title = "API keys unreadable"
      messages = [
        "API keys could not be read",
        "the secret has no enabled version: no API key is valid",
        "a key version is malformed and ignored"
      ]
      help = <<-EOT
        Instances use their cached keys for 10 minutes, then refuse every call. Look at the versions of the
        secret gateway-api-key and at Secret Manager's status.
      EOT
    }
  }
}

resource "google_logging_metric" "signal" {
  for_each    = local.signals
  name        = "gateway/${each.key}"
  description = each.value.title
  filter = "${local.gateway_logs} AND jsonPayload.message=(${join(
    " OR ", [for message in each.value.messages : "\"${message}\""]
  )})"
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
  depends_on = [time_sleep.apis]
}

# A policy on a metric that does not exist in Monitoring yet is refused.
resource "time_sleep" "metrics" {
  create_duration = "90s"
  triggers        = { metrics = join(" ", sort([for metric in google_logging_metric.signal : metric.name])) }
}

resource "google_monitoring_notification_channel" "email" {
  count        = var.alert_email == null ? 0 : 1
  display_name = "Codex Gateway"
  type         = "email"
  labels       = { email_address = var.alert_email }
  depends_on   = [time_sleep.apis]
}

resource "google_monitoring_alert_policy" "signal" {
  for_each              = local.signals
  display_name          = "Codex Gateway: ${each.value.title}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notifications
  conditions {
    display_name = each.value.title
    condition_threshold {
      filter = join(" AND ", [
        "resource.type = \"cloud_run_revision\"",
        "metric.type = \"logging.googleapis.com/user/${google_logging_metric.signal[each.key].name}\"",
      ])
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
  documentation {
    content = each.value.help
  }
  alert_strategy {
    auto_close = "1800s"
  }
  depends_on = [time_sleep.metrics]
}

locals {
  requests = join(" AND ", [
    "resource.type = \"cloud_run_revision\"",
    "metric.type = \"run.googleapis.com/request_count\"",
    "resource.labels.service_name = one_of(${join(", ", [for name in local.services : "\"${name}\""])})",
  ])

  # The same for what Google measures.
  thresholds = {
    server_errors = {
      title       = "More than 1 % of the requests fail with 5xx"
      filter      = "${local.requests} AND metric.labels.response_code_class = \"5xx\""
      denominator = local.requests
      aligner     = "ALIGN_RATE"
      above       = 0.01
      duration    = "300s"
      help        = <<-EOT
        Masked failures are ERROR lines with a request id: resource.labels.service_name=(...) AND
        severity>=ERROR. 503 comes with the dependency that is down: GET /health?verbose=1 with a key names it.
      EOT
    }
    dead_letters = {
      title = "Dead letters wait"
      filter = join(" AND ", [
        "resource.type = \"pubsub_subscription\"",
        "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\"",
        "resource.labels.subscription_id = \"${google_pubsub_subscription.dead_letters.name}\"",
      ])
      denominator = null
      aligner     = "ALIGN_MAX"
      above       = 0
      duration    = "0s"
      help        = <<-EOT
        A subscriber refused an event 10 times. Look at it with `gcloud pubsub subscriptions pull
        gateway-dead-letters`, mend the subscriber, replay (terraform/README.md, operate). Kept for 31 days.
      EOT
    }
    backlog = {
      title = "A subscriber is 10 minutes behind"
      filter = join(" AND ", [
        "resource.type = \"pubsub_subscription\"",
        "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\"",
        "resource.labels.subscription_id = one_of(${join(", ", [
          for name in sort(keys(local.subscriptions)) : "\"gateway-${name}\""
        ])})",
      ])
      denominator = null
      aligner     = "ALIGN_MAX"
      above       = 600
      duration    = "300s"
      help        = "Events are kept for a week. Look at the subscriber's own errors."
    }
  }
}

resource "google_monitoring_alert_policy" "threshold" {
  for_each              = local.thresholds
  display_name          = "Codex Gateway: ${each.value.title}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notifications
  conditions {
    display_name = each.value.title
    condition_threshold {
      filter             = each.value.filter
      denominator_filter = each.value.denominator
      comparison         = "COMPARISON_GT"
      threshold_value    = each.value.above
      duration           = each.value.duration
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.denominator == null ? "REDUCE_MAX" : "REDUCE_SUM"
      }
      dynamic "denominator_aggregations" {
        for_each = each.value.denominator == null ? [] : [each.value.aligner]
        content {
          alignment_period     = "300s"
          per_series_aligner   = denominator_aggregations.value
          cross_series_reducer = "REDUCE_SUM"
        }
      }
    }
  }
  documentation {
    content = each.value.help
  }
  alert_strategy {
    auto_close = "1800s"
  }
  depends_on = [time_sleep.apis]
}
