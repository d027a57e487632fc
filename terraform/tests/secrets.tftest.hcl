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
    secret_environment = { ANTHROPIC_API_KEY = "3", MCP_SERVERS = "2", MODEL_PROVIDERS = "4", WEBHOOK_SECRETS = "1" }
  }

  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => [for secret in function.service_config[0].secret_environment_variables : "${secret.key} ${secret.secret} ${secret.version}"] } == {
      health      = []
      jsonrpc     = ["ANTHROPIC_API_KEY anthropic-api-key 3", "MCP_SERVERS gateway-mcp-servers 2", "MODEL_PROVIDERS gateway-model-providers 4"]
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

run "only_what_calls_models_gets_their_settings" {
  command = plan

  variables {
    model              = "groq/llama-3.3-70b-versatile"
    secret_environment = { MODEL_PROVIDERS = "1" }
    models = {
      "groq/llama-3.3-70b-versatile" = { context_tokens = 131072, price = { input = 0.59, output = 0.79 } }
      "google/gemini-4"              = { input = ["text", "image"], reasoning = true }
    }
  }

  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => lookup(function.service_config[0].environment_variables, "MODEL", "") } == {
      health      = ""
      jsonrpc     = "groq/llama-3.3-70b-versatile"
      webhook     = ""
      deployments = ""
    }
    error_message = "A function without MODEL_PROVIDERS would not start with a model of its providers."
  }
  assert {
    condition = jsondecode(google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables.MODELS) == {
      "groq/llama-3.3-70b-versatile" = { context_tokens = 131072, price = { input = 0.59, output = 0.79 } }
      "google/gemini-4"              = { input = ["text", "image"], reasoning = true }
    }
    error_message = "MODELS holds what is given, and no null."
  }
  assert {
    condition     = [for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.name if contains(["MODEL", "MODELS", "MODEL_PROVIDERS"], env.name)] == ["MODEL", "MODELS", "MODEL_PROVIDERS"]
    error_message = "The companion runs prompts, too."
  }
}

run "keys_of_providers_stay_out_of_the_plan" {
  command = plan

  variables {
    environment = { MODEL_PROVIDERS = "{\"groq\": {\"base_url\": \"https://api.groq.com/openai/v1\", \"api_key\": \"gsk\", \"wire\": \"chat\"}}" }
    models      = { "gpt-5" = {} }
  }

  expect_failures = [
    var.environment,
    var.models,
  ]
}

run "keys_in_addresses_of_providers_stay_out_of_the_plan" {
  command = plan

  variables {
    environment = { MODEL_PROVIDERS = "{\"azure\": {\"base_url\": \"https://models.example.com/v1?api-version=1&Code=abc\", \"wire\": \"chat\"}}" }
  }

  expect_failures = [
    var.environment,
  ]
}

run "servers_without_keys_are_no_secret" {
  command = plan

  variables {
    environment = { MODEL_PROVIDERS = "{\"keyless\": {\"base_url\": \"https://models.example.com/v1?api-version=1\", \"wire\": \"chat\"}}" }
  }

  assert {
    condition     = length(google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables.MODEL_PROVIDERS) > 0
    error_message = "A server without a key is named in the environment."
  }
}
