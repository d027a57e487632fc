# Mistakes that a plan refuses, each with a message of its own.

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

run "each_is_refused" {
  command = plan

  variables {
    project_id = "Not A Project"
    bundle_dir = "tests/bundle"
    region     = "somewhere"
    # public_access says that.
    invokers = ["allUsers"]
    domain   = "https://gateway.example.com"
    # A tag can be moved to another image.
    sandbox_image     = "us-central1-docker.pkg.dev/gateway-test/gateway/sandbox:latest"
    sandbox_instances = 2
    sandbox_cpu       = 3
    limits            = "100 per minute"
    retention_days    = 0.5
    allowed_origins   = ["https://app.example.com/path"]
    environment       = { ANTHROPIC_API_KEY = "sk-not-here" }
    subscribers = {
      both     = { endpoint = "https://a.example.com", service_account = "a@b.iam.gserviceaccount.com" }
      breakout = { endpoint = "https://a.example.com", events = ["x\" OR attributes.event != \""] }
    }
    scaling             = { min_instances = 5, max_instances = 2 }
    alert_email         = "nobody"
    invoker_check       = "off"
    traffic             = "half"
    database            = "x"
    availability_goal   = 0.93
    sandbox_mcp_servers = "files"
    budget              = { billing_account = "mine", amount = 1 }
  }

  expect_failures = [
    var.project_id,
    var.region,
    var.invokers,
    var.domain,
    var.sandbox_image,
    var.sandbox_instances,
    var.sandbox_cpu,
    var.limits,
    var.retention_days,
    var.allowed_origins,
    var.environment,
    var.subscribers,
    var.scaling,
    var.alert_email,
    var.budget,
    var.invoker_check,
    var.traffic,
    var.database,
    var.availability_goal,
    var.sandbox_mcp_servers,
  ]
}

run "what_only_the_cloud_or_the_gateway_would_find_is_refused" {
  command = plan

  variables {
    project_id         = "gateway-test"
    bundle_dir         = "tests/bundle"
    firestore_location = "not a place"
    sandbox_memory_gib = 64
    limits             = "100/minute,200/minute"
    turns              = "somewhere"
    secret_environment = { ANTHROPIC_API_KEY = "latest" }
    subscribers = {
      hasty   = { endpoint = "https://a.example.com", ack_deadline_seconds = 5 }
      unknown = { service_account = "nobody" }
    }
  }

  expect_failures = [
    check.alerts_have_a_receiver,
    var.firestore_location,
    var.sandbox_memory_gib,
    var.limits,
    var.secret_environment,
    var.subscribers,
    var.turns,
  ]
}

# It refers to environment and secret_environment, so it is only checked where these are right.
run "a_model_without_a_provider" {
  command = plan

  variables {
    project_id  = "gateway-test"
    bundle_dir  = "tests/bundle"
    alert_email = "ops@example.com"
    model       = "claude"
  }

  expect_failures = [
    var.model,
  ]
}

run "a_model_of_a_provider_that_is_not_configured" {
  command = plan

  variables {
    project_id  = "gateway-test"
    bundle_dir  = "tests/bundle"
    alert_email = "ops@example.com"
    model       = "nobody/nothing"
  }

  expect_failures = [
    var.model,
  ]
}

run "settings_of_an_earlier_release_are_refused_where_they_would_have_no_effect" {
  command = plan

  variables {
    project_id = "gateway-test"
    bundle_dir = "tests/bundle"
    ws_image   = "us-central1-docker.pkg.dev/gateway-test/gateway/ws@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    companion  = { max_instances = 0, cpu = 4, memory_gib = 8 }
  }

  expect_failures = [
    check.alerts_have_a_receiver,
    var.ws_image,
    var.companion,
  ]
}

run "parts_that_need_each_other" {
  command = plan

  variables {
    project_id         = "gateway-test"
    bundle_dir         = "tests/bundle"
    alert_email        = "ops@example.com"
    sandbox_image      = "us-central1-docker.pkg.dev/gateway-test/gateway/sandbox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    companion          = { enabled = false }
    environment        = { MCP_SERVERS = "{}" }
    secret_environment = { MCP_SERVERS = "1" }
  }

  expect_failures = [
    var.companion,
    var.secret_environment,
  ]
}

run "turns_in_a_companion_that_is_left_out" {
  command = plan

  variables {
    project_id  = "gateway-test"
    bundle_dir  = "tests/bundle"
    alert_email = "ops@example.com"
    companion   = { enabled = false }
    turns       = "companion"
  }

  expect_failures = [var.turns]
}
