# Alerts for the operator: alert policies on log lines of the gateway and on metrics of Google Cloud. A test compares
# the log messages with the code.

locals {
  services = sort(concat(
    keys(local.functions), var.companion.enabled ? ["ws"] : [], var.sandbox_image == null ? [] : ["sandbox"]
  ))
  gateway_logs = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(
    " OR ", [for name in local.services : "\"${name}\""]
  )})"
  notifications = [for channel in google_monitoring_notification_channel.email : channel.id]

  # Log lines that need attention. Each alert policy matches the lines directly, because a log-based metric must exist
  # for minutes before a policy can use it.
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
    keys_many = {
      title    = "The last usable key version is enabled"
      messages = ["all usable key versions are enabled", "too many enabled key versions"]
      help     = <<-EOT
        The 50 newest enabled versions of the secret gateway-api-key are valid keys, and an older one is ignored.
        Disable versions that are no longer used, or put several keys into one version (terraform/README.md, operate).
      EOT
    }
  }
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
    condition_matched_log {
      filter = "${local.gateway_logs} AND jsonPayload.message=(${join(
        " OR ", [for message in each.value.messages : "\"${message}\""]
      )})"
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

# Without an address, incidents are shown only in the console, so every plan and apply warns.
check "alerts_have_a_receiver" {
  assert {
    condition     = var.alert_email != null
    error_message = "NO ALERT IS SENT: set alert_email. Until then incidents are only in the console."
  }
}

locals {
  requests = join(" AND ", [
    "resource.type = \"cloud_run_revision\"",
    "metric.type = \"run.googleapis.com/request_count\"",
    "resource.labels.service_name = one_of(${join(", ", [for name in local.services : "\"${name}\""])})",
  ])

  # Alerts on metrics of Google Cloud.
  thresholds = {
    dead_letters = {
      title = "Dead letters wait"
      filter = join(" AND ", [
        "resource.type = \"pubsub_subscription\"",
        "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\"",
        "resource.labels.subscription_id = \"${google_pubsub_subscription.dead_letters.name}\"",
      ])
      aligner  = "ALIGN_MAX"
      above    = 0
      duration = "0s"
      help     = <<-EOT
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
      aligner  = "ALIGN_MAX"
      above    = 600
      duration = "300s"
      help     = "Events are kept for a week. Look at the subscriber's own errors."
    }
    # The sweep reads and writes documents every minute, so it fails when the database cannot be used.
    sweep = {
      title = "The sweep fails: Firestore or Pub/Sub cannot be used"
      filter = join(" AND ", [
        "resource.type = \"cloud_run_revision\"",
        "metric.type = \"run.googleapis.com/request_count\"",
        "resource.labels.service_name = \"deployments\"",
        "metric.labels.response_code_class = \"5xx\"",
      ])
      aligner  = "ALIGN_SUM"
      above    = 2
      duration = "0s"
      help     = <<-EOT
        The deployments function answered 5xx three times in 5 minutes: to the sweep, which uses the database once a
        minute, or to events. Its ERROR lines have the cause.
      EOT
    }
    quota = {
      title = "A quota of Google Cloud is exceeded"
      filter = join(" AND ", [
        "resource.type = \"consumer_quota\"",
        "metric.type = \"serviceruntime.googleapis.com/quota/exceeded\"",
      ])
      aligner  = "ALIGN_COUNT_TRUE"
      above    = 0
      duration = "0s"
      help     = <<-EOT
        Calls are refused until the quota is raised: `metric.labels.quota_metric` of the incident names it. Ask for more
        under IAM & Admin, Quotas.
      EOT
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
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = each.value.duration
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.aligner == "ALIGN_MAX" ? "REDUCE_MAX" : "REDUCE_SUM"
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
