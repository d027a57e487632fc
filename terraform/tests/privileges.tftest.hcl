# Least privilege: every grant of the deployment as a table of account, role and resource. Invokers are in
# access.tftest.hcl. A grant resource that is added and not listed here is found by test/unit/deploy.

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

override_resource {
  target          = google_service_account.function["health"]
  override_during = plan
  values          = { member = "health", email = "health" }
}
override_resource {
  target          = google_service_account.function["jsonrpc"]
  override_during = plan
  values          = { member = "jsonrpc", email = "jsonrpc" }
}
override_resource {
  target          = google_service_account.function["webhook"]
  override_during = plan
  values          = { member = "webhook", email = "webhook" }
}
override_resource {
  target          = google_service_account.function["deployments"]
  override_during = plan
  values          = { member = "deployments", email = "deployments" }
}
override_resource {
  target          = google_service_account.companion
  override_during = plan
  values          = { member = "ws", email = "ws" }
}
override_resource {
  target          = google_service_account.sandbox[0]
  override_during = plan
  values          = { member = "sandbox", email = "sandbox" }
}
override_resource {
  target          = google_service_account.build
  override_during = plan
  values          = { member = "build", email = "build" }
}
override_resource {
  target          = google_service_account.push
  override_during = plan
  values          = { member = "push", email = "push" }
}
override_resource {
  target          = google_service_account.sweeper
  override_during = plan
  values          = { member = "sweeper", email = "sweeper" }
}
override_resource {
  target          = google_project_service_identity.pubsub
  override_during = plan
  values          = { member = "pubsub-agent" }
}
override_resource {
  target          = google_project_service_identity.run
  override_during = plan
  values          = { member = "run-agent" }
}
override_resource {
  target          = google_project_iam_custom_role.model_caller
  override_during = plan
  values          = { name = "gatewayModelCaller" }
}
override_resource {
  target          = google_kms_crypto_key.credentials
  override_during = plan
  values          = { id = "credentials" }
}
override_resource {
  target          = google_secret_manager_secret.api_key
  override_during = plan
  values          = { id = "gateway-api-key" }
}
override_resource {
  target          = google_secret_manager_secret.environment["ANTHROPIC_API_KEY"]
  override_during = plan
  values          = { id = "anthropic-api-key" }
}
override_resource {
  target          = google_secret_manager_secret.environment["MCP_SERVERS"]
  override_during = plan
  values          = { id = "gateway-mcp-servers" }
}
override_resource {
  target          = google_secret_manager_secret.environment["OPENAI_API_KEY"]
  override_during = plan
  values          = { id = "openai-api-key" }
}
override_resource {
  target          = google_secret_manager_secret.environment["WEBHOOK_SECRETS"]
  override_during = plan
  values          = { id = "gateway-webhook-secrets" }
}

variables {
  project_id    = "gateway-test"
  bundle_dir    = "tests/bundle"
  sandbox_image = "us-central1-docker.pkg.dev/gateway-test/gateway/sandbox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  alert_email   = "ops@example.com"
  subscribers   = { audit = { service_account = "audit@gateway-test.iam.gserviceaccount.com" } }
}

run "least_privilege" {
  command = plan

  variables {
    secret_environment = { ANTHROPIC_API_KEY = "1", WEBHOOK_SECRETS = "1", MCP_SERVERS = "1" }
  }

  assert {
    condition = toset(concat(
      [for grant in concat([google_project_iam_member.build_source, google_project_iam_member.build_logs], values(google_project_iam_member.firestore), values(google_project_iam_member.models)) :
      "${grant.member} ${grant.role} project${length(grant.condition) == 0 ? "" : " if ${grant.condition[0].expression}"}"],
      [for grant in [google_artifact_registry_repository_iam_member.build] : "${grant.member} ${grant.role} gateway"],
      [for grant in [google_storage_bucket_iam_member.build, google_storage_bucket_iam_member.run] : "${grant.member} ${grant.role} ${grant.bucket}"],
      [for grant in concat(values(google_secret_manager_secret_iam_member.keys), values(google_secret_manager_secret_iam_member.environment)) : "${grant.member} ${grant.role} ${grant.secret_id}"],
      [for grant in google_kms_crypto_key_iam_member.credentials : "${grant.member} ${grant.role} ${grant.crypto_key_id}"],
      [for grant in concat(values(google_pubsub_topic_iam_member.publisher), [google_pubsub_topic_iam_member.dead_letters]) : "${grant.member} ${grant.role} ${grant.topic}"],
      [for grant in concat(values(google_pubsub_subscription_iam_member.puller), values(google_pubsub_subscription_iam_member.dead_letters)) : "${grant.member} ${grant.role} ${grant.subscription}"],
      [for grant in [google_service_account_iam_member.push_token] : "${grant.member} ${grant.role} push"],
      [for grant in google_cloud_run_v2_service_iam_member.sandbox_invoker : "${grant.member} ${grant.role} ${grant.name}"],
      )) == toset([
      # Nothing at all for health, push, sweeper and sandbox.
      "build roles/artifactregistry.writer gateway",
      "build roles/logging.logWriter project",
      "build roles/storage.objectViewer gateway-test-gateway-source",
      "build roles/storage.objectViewer project if resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")",
      "deployments roles/pubsub.publisher gateway-events",
      "deployments roles/datastore.user project if resource.name == \"projects/gateway-test/databases/(default)\"",
      "jsonrpc gatewayModelCaller project",
      "jsonrpc roles/cloudkms.cryptoKeyEncrypterDecrypter credentials",
      "jsonrpc roles/datastore.user project if resource.name == \"projects/gateway-test/databases/(default)\"",
      "jsonrpc roles/secretmanager.secretAccessor anthropic-api-key",
      "jsonrpc roles/secretmanager.secretAccessor gateway-api-key",
      "jsonrpc roles/secretmanager.secretAccessor gateway-mcp-servers",
      "jsonrpc roles/secretmanager.viewer gateway-api-key",
      "pubsub-agent roles/iam.serviceAccountOpenIdTokenCreator push",
      "pubsub-agent roles/pubsub.publisher gateway-dead-letters",
      "pubsub-agent roles/pubsub.subscriber gateway-audit",
      "pubsub-agent roles/pubsub.subscriber gateway-deployments",
      "run-agent roles/storage.objectViewer gateway-test-gateway-source",
      "serviceAccount:audit@gateway-test.iam.gserviceaccount.com roles/pubsub.subscriber gateway-audit",
      "webhook roles/datastore.user project if resource.name == \"projects/gateway-test/databases/(default)\"",
      "webhook roles/pubsub.publisher gateway-events",
      "webhook roles/secretmanager.secretAccessor gateway-api-key",
      "webhook roles/secretmanager.secretAccessor gateway-webhook-secrets",
      "webhook roles/secretmanager.viewer gateway-api-key",
      "ws gatewayModelCaller project",
      "ws roles/cloudkms.cryptoKeyEncrypterDecrypter credentials",
      "ws roles/run.invoker sandbox",
      "ws roles/datastore.user project if resource.name == \"projects/gateway-test/databases/(default)\"",
      "ws roles/secretmanager.secretAccessor anthropic-api-key",
      "ws roles/secretmanager.secretAccessor gateway-api-key",
      "ws roles/secretmanager.secretAccessor gateway-mcp-servers",
      "ws roles/secretmanager.viewer gateway-api-key",
    ])
    error_message = "A grant is missing, or there is one too many."
  }

  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => function.service_config[0].service_account_email } == {
      health = "health", jsonrpc = "jsonrpc", webhook = "webhook", deployments = "deployments"
    } && google_cloud_run_v2_service.companion[0].template[0].service_account == "ws" && google_cloud_run_v2_service.sandbox[0].template[0].service_account == "sandbox"
    error_message = "Each deployable runs as its own account."
  }

  assert {
    condition     = google_project_iam_custom_role.model_caller.permissions == toset(["aiplatform.endpoints.predict"])
    error_message = "The role for models only calls models."
  }

  assert {
    condition     = google_secret_manager_secret_version.first_key.secret_data_wo == null && google_secret_manager_secret_version.first_key.secret_data_wo_version == 1
    error_message = "The first key is write-only."
  }

  assert {
    condition = { for service, config in google_project_iam_audit_config.data_access : service => toset(flatten([for log in config.audit_log_config : log.exempted_members])) } == {
      secretmanager = toset([]), cloudkms = toset([]), datastore = toset(["jsonrpc", "webhook", "deployments", "ws"])
    }
    error_message = "Every access to secrets and keys is logged, and of documents every one but the gateway's own."
  }
}

run "before_a_version_is_named" {
  command = plan

  assert {
    condition     = length([for function in google_cloudfunctions2_function.function : function if length(function.service_config[0].secret_environment_variables) > 0]) == 0 && length(google_secret_manager_secret_iam_member.environment) == 0
    error_message = "Nothing is mounted, and no account reads the secrets, before the operator has named a version."
  }
}
