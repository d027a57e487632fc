# Who reaches the endpoints: public access on and off, a domain on and off.

mock_provider "google" {
  override_during = plan
}
mock_provider "google-beta" {
  override_during = plan
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://ws-abc-uc.a.run.app" }
  }
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
  bundle_dir = "tests/bundle"
}

run "public_by_default" {
  command = plan

  assert {
    condition     = alltrue([for grant in google_cloud_run_v2_service_iam_member.invoker : grant.member == "allUsers" && grant.role == "roles/run.invoker"])
    error_message = "With public access everybody passes IAM, and the code checks keys and tokens."
  }
  assert {
    condition     = toset([for grant in google_cloud_run_v2_service_iam_member.invoker : grant.name]) == toset(["health", "jsonrpc", "webhook", "deployments"])
    error_message = "Each function has one invoker grant, on the service under it."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion.invoker_iam_disabled
    error_message = "The companion checks its callers itself."
  }
  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => function.service_config[0].ingress_settings } == {
      health = "ALLOW_ALL", jsonrpc = "ALLOW_ALL", webhook = "ALLOW_ALL", deployments = "ALLOW_INTERNAL_ONLY"
    }
    error_message = "Only Pub/Sub, from inside, reaches deployments."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.health) == 1 && output.base_url == "https://us-central1-gateway-test.cloudfunctions.net"
    error_message = "The base URL is the functions' own, and it is watched."
  }
  assert {
    condition     = length(google_compute_url_map.gateway) == 0 && length(google_compute_region_network_endpoint_group.endpoint) == 0 && output.domain_address == null
    error_message = "Without a domain there is no load balancer to pay for."
  }
}

run "private" {
  command = plan

  variables {
    public_access = false
    invokers      = ["group:team@example.com", "user:a@example.com"]
  }

  assert {
    condition = toset([for grant in google_cloud_run_v2_service_iam_member.invoker : "${grant.name} ${grant.member}"]) == toset([
      "deployments allUsers",
      "health group:team@example.com",
      "health user:a@example.com",
      "jsonrpc group:team@example.com",
      "jsonrpc user:a@example.com",
      "webhook allUsers",
    ])
    error_message = <<-EOT
      IAM lets exactly the invokers to health and jsonrpc; the others check their own tokens, whose signatures IAM
      would take.
    EOT
  }
  assert {
    condition     = google_cloudfunctions2_function.function["deployments"].service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "Only Pub/Sub, from inside, reaches deployments."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.health) == 0 && length(google_monitoring_alert_policy.uptime) == 0
    error_message = "No checker gets past IAM, so none is asked to."
  }
  assert {
    condition     = strcontains(output.curl, "X-Serverless-Authorization: Bearer $(gcloud auth print-identity-token)")
    error_message = "The curl line brings the ID token that IAM wants, beside the API key."
  }
}

run "domain" {
  command = plan

  variables {
    domain = "gateway.example.com"
  }

  assert {
    condition = toset(flatten([for rule in google_compute_url_map.gateway[0].path_matcher[0].path_rule : rule.paths])) == toset([
      "/health", "/health/*", "/jsonrpc", "/jsonrpc/*", "/webhook", "/webhook/*", "/ws", "/ws/*",
    ])
    error_message = "All four endpoints are behind the domain, and deployments is not."
  }
  assert {
    condition     = { for name, group in google_compute_region_network_endpoint_group.endpoint : name => group.cloud_run[0].service } == { health = "health", jsonrpc = "jsonrpc", webhook = "webhook", ws = "ws" }
    error_message = "Each endpoint leads to the service of its name."
  }
  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => function.service_config[0].ingress_settings } == {
      health = "ALLOW_INTERNAL_AND_GCLB", jsonrpc = "ALLOW_INTERNAL_AND_GCLB", webhook = "ALLOW_INTERNAL_AND_GCLB", deployments = "ALLOW_INTERNAL_ONLY"
    }
    error_message = "No request bypasses Cloud Armor."
  }
  assert {
    condition     = google_compute_global_forwarding_rule.gateway[0].port_range == "443"
    error_message = "A key never travels over HTTP."
  }
  assert {
    condition     = contains([for rule in google_compute_security_policy.gateway[0].rule : rule.action], "throttle")
    error_message = "One address is throttled at the edge."
  }
  assert {
    condition     = output.base_url == "https://gateway.example.com" && output.websocket_url == "wss://gateway.example.com/ws"
    error_message = "The outputs name the domain."
  }
  assert {
    condition     = google_monitoring_uptime_check_config.health[0].monitored_resource[0].labels.host == "gateway.example.com"
    error_message = "The domain is what is watched."
  }
}
