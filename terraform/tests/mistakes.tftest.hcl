# Mistakes that a plan refuses, each with a message of its own.

mock_provider "google" {
  override_during = plan
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
    sandbox_image      = "us-central1-docker.pkg.dev/gateway-test/gateway/sandbox:latest"
    sandbox_instances  = 0
    sandbox_cpu        = 3
    limits             = "100 per minute"
    model              = "claude"
    allowed_origins    = ["https://app.example.com/path"]
    environment        = { ANTHROPIC_API_KEY = "sk-not-here" }
    secret_environment = { ANTHROPIC_API_KEY = "latest" }
    subscribers = {
      both     = { endpoint = "https://a.example.com", service_account = "a@b.iam.gserviceaccount.com" }
      breakout = { endpoint = "https://a.example.com", events = ["x\" OR attributes.event != \""] }
    }
    scaling     = { min_instances = 5, max_instances = 2 }
    companion   = { max_instances = 0 }
    alert_email = "nobody"
    budget      = { billing_account = "mine", amount = 1 }
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
    var.model,
    var.allowed_origins,
    var.environment,
    var.secret_environment,
    var.subscribers,
    var.scaling,
    var.companion,
    var.alert_email,
    var.budget,
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
    model              = "nobody/nothing"
    subscribers = {
      hasty   = { endpoint = "https://a.example.com", ack_deadline_seconds = 5 }
      unknown = { service_account = "nobody" }
    }
  }

  expect_failures = [
    var.firestore_location,
    var.sandbox_memory_gib,
    var.limits,
    var.model,
    var.subscribers,
  ]
}

run "settings_of_an_earlier_release_are_refused_where_they_would_have_no_effect" {
  command = plan

  variables {
    project_id = "gateway-test"
    bundle_dir = "tests/bundle"
    ws_image   = "us-central1-docker.pkg.dev/gateway-test/gateway/ws@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    companion  = { cpu = 4, memory_gib = 8 }
  }

  expect_failures = [
    var.ws_image,
    var.companion,
  ]
}
