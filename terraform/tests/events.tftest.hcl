# The topic, its subscriptions and the dead letters.

mock_provider "google" {
  override_during = plan
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "google-beta" {
  override_during = plan
}
mock_provider "archive" {
  override_during = plan
}
mock_provider "random" {
  override_during = plan
}
mock_provider "time" {
  override_during = plan
}

variables {
  project_id  = "gateway-test"
  bundle_dir  = "tests/bundle"
  alert_email = "ops@example.com"
  subscribers = {
    releases = { endpoint = "https://hooks.example.com/releases", events = ["deployment.success", "release.*"] }
    audit    = { service_account = "audit@gateway-test.iam.gserviceaccount.com" }
  }
}

run "subscriptions" {
  # Addresses of functions are known after they exist.
  command = apply

  assert {
    condition = { for name, subscription in google_pubsub_subscription.subscription : name => subscription.filter } == {
      deployments = "hasPrefix(attributes.event, \"deployment.\")"
      releases    = "attributes.event = \"deployment.success\" OR hasPrefix(attributes.event, \"release.\")"
      audit       = ""
    }
    error_message = "A subscriber receives the events that it names."
  }
  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.subscription : subscription.expiration_policy[0].ttl == "" && subscription.dead_letter_policy[0].max_delivery_attempts == 10])
    error_message = "No subscription expires, and each files its dead letters."
  }
  assert {
    condition     = google_pubsub_subscription.subscription["releases"].push_config[0].oidc_token[0].audience == "https://hooks.example.com/releases" && length(google_pubsub_subscription.subscription["audit"].push_config) == 0
    error_message = "An endpoint is pushed to with a token for itself; a service account pulls."
  }
  assert {
    condition = alltrue([
      google_pubsub_subscription.subscription["deployments"].push_config[0].push_endpoint == "https://deployments-123456789012.us-central1.run.app",
      google_pubsub_subscription.subscription["deployments"].push_config[0].oidc_token[0].audience == google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["PUSH_AUDIENCE"],
      google_pubsub_subscription.subscription["deployments"].push_config[0].oidc_token[0].service_account_email == google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["PUSH_SERVICE_ACCOUNT"],
    ])
    error_message = "The token that Pub/Sub sends is the one that deployments accepts, at an address known before it exists."
  }
  assert {
    condition = alltrue([
      google_cloud_scheduler_job.sweep.http_target[0].uri == "https://deployments-123456789012.us-central1.run.app/sweep",
      google_cloud_scheduler_job.sweep.http_target[0].oidc_token[0].audience == google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["PUSH_AUDIENCE"],
      google_cloud_scheduler_job.sweep.http_target[0].oidc_token[0].service_account_email == google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["SWEEP_SERVICE_ACCOUNT"],
      !contains(keys(google_cloudfunctions2_function.function["webhook"].service_config[0].environment_variables), "PUSH_AUDIENCE"),
    ])
    error_message = "The token that Scheduler sends is the one that the function accepts for a sweep."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.expiration_policy[0].ttl == "" && google_pubsub_subscription.dead_letters.message_retention_duration == "2678400s"
    error_message = "Dead letters wait for 31 days."
  }
}
