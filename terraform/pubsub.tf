# The event topic, its subscriptions and the dead-letter topic. Every subscription has the same maximum number of
# attempts, keeps messages for a week, and never expires.

locals {
  subscriptions = merge(
    {
      deployments = {
        endpoint             = local.service_urls.deployments
        audience             = local.service_urls.deployments
        service_account      = null
        events               = ["deployment.*"]
        ordered              = false
        ack_deadline_seconds = 30
      }
    },
    { for name, subscriber in var.subscribers : name => merge(subscriber, { audience = subscriber.endpoint }) },
  )
}

resource "google_pubsub_topic" "events" {
  name       = "gateway-events"
  depends_on = [time_sleep.apis]
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = toset([for name, uses in local.uses : name if contains(uses, "publish")])
  topic    = google_pubsub_topic.events.name
  role     = "roles/pubsub.publisher"
  member   = local.members[each.key]
}

# The account whose ID tokens push requests contain. It has no role.
resource "google_service_account" "push" {
  account_id   = "gateway-push"
  display_name = "Codex Gateway: Pub/Sub push"
  depends_on   = [time_sleep.apis]
}

resource "google_service_account_iam_member" "push_token" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_project_service_identity.pubsub.member
}

resource "google_pubsub_subscription" "subscription" {
  for_each = local.subscriptions
  name     = "gateway-${each.key}"
  topic    = google_pubsub_topic.events.id
  filter = join(" OR ", [
    for event in each.value.events :
    endswith(event, "*")
    ? "hasPrefix(attributes.event, \"${trimsuffix(event, "*")}\")"
    : "attributes.event = \"${event}\""
  ])
  ack_deadline_seconds       = each.value.ack_deadline_seconds
  message_retention_duration = "604800s"
  # Unordered by default: the subscriber of the gateway orders events by their time, and one invalid message must not
  # block the others.
  enable_message_ordering = each.value.ordered

  dynamic "push_config" {
    for_each = each.value.endpoint == null ? [] : [each.value]
    content {
      push_endpoint = push_config.value.endpoint
      oidc_token {
        service_account_email = google_service_account.push.email
        audience              = push_config.value.audience
      }
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = 10
  }

  # By default, Pub/Sub deletes a subscription that was not used for 31 days.
  expiration_policy {
    ttl = ""
  }

  depends_on = [google_service_account_iam_member.push_token]
}

resource "google_pubsub_subscription_iam_member" "puller" {
  for_each = {
    for name, subscriber in var.subscribers : name => subscriber.service_account if subscriber.service_account != null
  }
  subscription = google_pubsub_subscription.subscription[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = "serviceAccount:${each.value}"
}

resource "google_pubsub_topic" "dead_letters" {
  name       = "gateway-dead-letters"
  depends_on = [time_sleep.apis]
}

# A topic without a subscription stores no messages.
resource "google_pubsub_subscription" "dead_letters" {
  name                       = "gateway-dead-letters"
  topic                      = google_pubsub_topic.dead_letters.id
  message_retention_duration = "2678400s"
  ack_deadline_seconds       = 60
  expiration_policy {
    ttl = ""
  }
}

# To move a message to the dead-letter topic, the service agent of Pub/Sub publishes it there and acknowledges it here.
resource "google_pubsub_topic_iam_member" "dead_letters" {
  topic  = google_pubsub_topic.dead_letters.name
  role   = "roles/pubsub.publisher"
  member = google_project_service_identity.pubsub.member
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  for_each     = local.subscriptions
  subscription = google_pubsub_subscription.subscription[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = google_project_service_identity.pubsub.member
}
