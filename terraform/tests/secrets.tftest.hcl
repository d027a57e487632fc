# No secret value in plan or state, and none accepted where one would end up there.

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
}

run "versions_are_references" {
  command = plan

  variables {
    secret_environment = { ANTHROPIC_API_KEY = "3", MCP_SERVERS = "2", WEBHOOK_SECRETS = "1" }
  }

  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => [for secret in function.service_config[0].secret_environment_variables : "${secret.key} ${secret.secret} ${secret.version}"] } == {
      health      = []
      jsonrpc     = ["ANTHROPIC_API_KEY anthropic-api-key 3", "MCP_SERVERS gateway-mcp-servers 2"]
      webhook     = ["WEBHOOK_SECRETS gateway-webhook-secrets 1"]
      deployments = []
    }
    error_message = "Each function gets only the secrets it uses, by version."
  }
  assert {
    condition     = [for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.value_source[0].secret_key_ref[0].version if env.name == "ANTHROPIC_API_KEY"] == ["3"]
    error_message = "The companion gets the model's key the same way."
  }
}
