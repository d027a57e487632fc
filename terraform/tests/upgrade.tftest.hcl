# The upgrade of a deployment of release 1.2.0 with `ws_image`: what holds data or has a public URL is the same resource
# afterwards, under the same name. Another name would make it anew.

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
  project_id = "gateway-test"
}

run "release_1_2_0" {
  module {
    source = "./tests/release-1.2.0"
  }
  state_key = "upgrade"
}

run "upgrade" {
  command   = plan
  state_key = "upgrade"

  variables {
    bundle_dir    = "tests/bundle"
    alert_email   = "ops@example.com"
    domain        = "gateway.example.com"
    sandbox_image = "us-central1-docker.pkg.dev/gateway-test/gateway/sandbox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    # Left in the .tfvars file.
    ws_image = "us-central1-docker.pkg.dev/gateway-test/gateway/ws@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition = concat(
      [for account in google_service_account.function : account.id],
      [for function in google_cloudfunctions2_function.function : function.id],
      [for name, secret in google_secret_manager_secret.environment : secret.id if !contains(["MCP_SERVERS", "MODEL_PROVIDERS"], name)],
      [for subscription in google_pubsub_subscription.subscription : subscription.id],
      [
        google_service_account.companion.id,
        google_cloud_run_v2_service.companion[0].id,
        google_firestore_database.gateway.id,
        random_id.key_ring.id,
        google_kms_key_ring.gateway.id,
        google_kms_crypto_key.credentials.id,
        google_secret_manager_secret.api_key.id,
        google_secret_manager_secret_version.first_key.id,
        google_pubsub_topic.events.id,
        google_pubsub_topic.dead_letters.id,
        google_pubsub_subscription.dead_letters.id,
        google_compute_global_address.gateway[0].id,
      ],
    ) == run.release_1_2_0.ids
    error_message = "A resource of 1.2.0 would be destroyed and made anew: it needs a moved block (moved.tf.json)."
  }
  assert {
    condition = concat(
      [for function in google_cloudfunctions2_function.function : function.name],
      [for name, secret in google_secret_manager_secret.environment : secret.secret_id if !contains(["MCP_SERVERS", "MODEL_PROVIDERS"], name)],
      [for subscription in google_pubsub_subscription.subscription : subscription.name],
      [
        google_service_account.companion.account_id,
        google_cloud_run_v2_service.companion[0].name,
        google_firestore_database.gateway.name,
        google_kms_key_ring.gateway.name,
        google_kms_crypto_key.credentials.name,
        google_secret_manager_secret.api_key.secret_id,
        google_pubsub_topic.events.name,
        google_pubsub_topic.dead_letters.name,
        google_pubsub_subscription.dead_letters.name,
        google_compute_global_address.gateway[0].name,
      ],
    ) == run.release_1_2_0.names
    error_message = "A resource of 1.2.0 has another name, which Google Cloud cannot change in place."
  }
  assert {
    condition = alltrue([
      google_cloud_run_v2_service.companion[0].template[0].containers[0].image == "scratch",
      google_cloud_run_v2_service.companion[0].template[0].scaling[0].max_instance_count == 20,
      google_cloud_run_v2_service.sandbox[0].template[0].containers[0].image == var.sandbox_image,
    ])
    error_message = "The container with the workspaces becomes the sandbox service, and the companion scales."
  }
}

run "always_a_companion" {
  module {
    source = "./tests/always-a-companion"
  }
  state_key = "always-a-companion"
}

run "upgrade_to_known_addresses" {
  command   = plan
  state_key = "always-a-companion"

  variables {
    bundle_dir  = "tests/bundle"
    alert_email = "ops@example.com"
  }

  assert {
    condition = [
      google_service_account.companion.id,
      google_cloud_run_v2_service.companion[0].id,
      google_firestore_database.gateway.id,
      google_pubsub_topic.events.id,
      google_pubsub_subscription.subscription["deployments"].id,
    ] == run.always_a_companion.ids
    error_message = "What has data or a public URL would be destroyed and made anew."
  }
  assert {
    condition     = google_pubsub_subscription.subscription["deployments"].push_config[0].push_endpoint == "https://deployments-123456789012.us-central1.run.app"
    error_message = "The subscription changes its address in place."
  }
}
