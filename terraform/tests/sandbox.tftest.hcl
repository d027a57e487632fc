# The sandbox service: what it may do, who reaches it, what it reaches, and what the companion gets to call it.

mock_provider "google" {
  override_during = plan
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://sandbox-abc-uc.a.run.app" }
  }
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

override_resource {
  target          = google_service_account.companion
  override_during = plan
  values          = { email = "ws", member = "serviceAccount:ws" }
}
override_resource {
  target          = google_service_account.sandbox[0]
  override_during = plan
  values          = { email = "sandbox", member = "serviceAccount:sandbox" }
}
override_resource {
  target          = google_compute_network.gateway["ws"]
  override_during = plan
  values          = { id = "network-ws" }
}
override_resource {
  target          = google_compute_network.gateway["sandbox"]
  override_during = plan
  values          = { id = "network-sandbox" }
}
override_resource {
  target          = google_compute_subnetwork.gateway["ws"]
  override_during = plan
  values          = { id = "subnetwork-ws" }
}
override_resource {
  target          = google_compute_subnetwork.gateway["sandbox"]
  override_during = plan
  values          = { id = "subnetwork-sandbox" }
}

variables {
  project_id    = "gateway-test"
  bundle_dir    = "tests/bundle"
  sandbox_image = "us-central1-docker.pkg.dev/gateway-test/gateway/sandbox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  environment = {
    BFF_BASE_URL = "https://backend.example.com"
    MCP_SERVERS  = "{\"files\":{\"command\":\"mcp-files\",\"args\":[\"/\"]},\"search\":{\"url\":\"https://search.example.com/mcp\",\"headers\":{\"X\":\"y\"}}}"
  }
  secret_environment = { ANTHROPIC_API_KEY = "3" }
  alert_email        = "ops@example.com"
}

run "the_service" {
  command = plan

  assert {
    condition = alltrue([
      google_cloud_run_v2_service.sandbox[0].name == "sandbox",
      google_cloud_run_v2_service.sandbox[0].template[0].containers[0].image == var.sandbox_image,
      google_cloud_run_v2_service.sandbox[0].template[0].execution_environment == "EXECUTION_ENVIRONMENT_GEN2",
      google_cloud_run_v2_service.sandbox[0].template[0].timeout == "3600s",
      google_cloud_run_v2_service.sandbox[0].template[0].scaling[0].max_instance_count == 1,
      !google_cloud_run_v2_service.sandbox[0].template[0].containers[0].resources[0].cpu_idle,
      google_cloud_run_v2_service.sandbox[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "2", memory = "4Gi" }),
    ])
    error_message = "One instance of the image on Linux with namespaces, whose processes run between requests."
  }
  assert {
    condition = alltrue([
      google_cloud_run_v2_service.sandbox[0].template[0].containers[0].startup_probe[0].http_get[0].path == "/health",
      google_cloud_run_v2_service.sandbox[0].template[0].containers[0].liveness_probe[0].http_get[0].path == "/health",
    ])
    error_message = "It is admitted when it answers, and replaced when it no longer does."
  }
  assert {
    condition     = google_cloud_run_v2_service.sandbox[0].template[0].service_account == "sandbox" && google_service_account.sandbox[0].account_id == "gateway-sandbox"
    error_message = "It runs as an account of its own."
  }
  assert {
    # Everything that it is given: no secret, no store, no key, no provider.
    condition = { for env in google_cloud_run_v2_service.sandbox[0].template[0].containers[0].env : env.name => length(env.value_source) == 0 ? env.value : "a secret" } == {
      SANDBOX_AUDIENCE = "codex-gateway-sandbox.gateway-test"
      SANDBOX_CALLERS  = "ws"
      MCP_SERVERS      = jsonencode({ files = { command = "mcp-files", args = ["/"] } })
    }
    error_message = "Its environment has no secret, and of the registered servers only the programs."
  }
  assert {
    condition     = length(google_cloud_run_v2_service.sandbox[0].template[0].volumes) == 0
    error_message = "Nothing is mounted into it."
  }
}

run "ingress" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.sandbox[0].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && !google_cloud_run_v2_service.sandbox[0].invoker_iam_disabled
    error_message = "Only networks of this project reach it, and Cloud Run checks who calls."
  }
  assert {
    condition     = [for grant in google_cloud_run_v2_service_iam_member.sandbox_invoker : "${grant.member} ${grant.role} ${grant.name}"] == ["serviceAccount:ws roles/run.invoker sandbox"]
    error_message = "Only the companion's account may call it."
  }
  assert {
    condition     = length([for grant in google_cloud_run_v2_service_iam_member.invoker : grant if grant.name == "sandbox"]) == 0
    error_message = "Public access is not for the sandbox service."
  }
  assert {
    condition = {
      for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.name => env.value if startswith(env.name, "SANDBOX_")
      } == {
      SANDBOX_URL      = "https://sandbox-123456789012.us-central1.run.app"
      SANDBOX_AUDIENCE = google_cloud_run_v2_service.sandbox[0].custom_audiences[0]
    }
    error_message = "The companion has the address, and the audience that Cloud Run and the service accept."
  }
  assert {
    condition = alltrue([
      google_cloud_run_v2_service.companion[0].template[0].vpc_access[0].egress == "PRIVATE_RANGES_ONLY",
      google_cloud_run_v2_service.companion[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == "subnetwork-ws",
      google_dns_record_set.gateway["ws"].name == "sandbox-123456789012.us-central1.run.app.",
      google_dns_managed_zone.gateway["ws"].dns_name == "sandbox-123456789012.us-central1.run.app.",
    ])
    error_message = "The companion's connection goes through its network, and nothing else of it does."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].scaling[0].max_instance_count == 20 && google_cloud_run_v2_service.companion[0].template[0].containers[0].image == "scratch"
    error_message = "With a sandbox service the companion scales as the functions do, and still needs no image."
  }
}

run "egress" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.sandbox[0].template[0].vpc_access[0].egress == "ALL_TRAFFIC" && google_cloud_run_v2_service.sandbox[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == "subnetwork-sandbox"
    error_message = "All that it sends goes through its network."
  }
  assert {
    condition = alltrue([for name in ["ws", "sandbox"] : alltrue([
      google_compute_firewall.closed[name].network == "network-${name}",
      google_compute_firewall.closed[name].direction == "EGRESS",
      google_compute_firewall.closed[name].destination_ranges == toset(["0.0.0.0/0"]),
      one(google_compute_firewall.closed[name].deny).protocol == "all",
      google_compute_firewall.google_services[name].network == "network-${name}",
      google_compute_firewall.google_services[name].direction == "EGRESS",
      google_compute_firewall.google_services[name].priority < google_compute_firewall.closed[name].priority,
      google_compute_firewall.google_services[name].destination_ranges == toset(["199.36.153.8/30"]),
      one(google_compute_firewall.google_services[name].allow).ports == tolist(["443"]),
      google_compute_subnetwork.gateway[name].network == "network-${name}",
      google_compute_subnetwork.gateway[name].private_ip_google_access,
    ])])
    error_message = "Nothing leaves the networks but to Google's own services."
  }
  assert {
    condition     = google_compute_network.gateway["ws"].name != google_compute_network.gateway["sandbox"].name && !google_compute_network.gateway["sandbox"].auto_create_subnetworks
    error_message = "The sandbox service is alone in its network."
  }
  assert {
    condition = alltrue([
      google_dns_managed_zone.gateway["sandbox"].dns_name == ".",
      google_dns_managed_zone.gateway["sandbox"].visibility == "private",
      google_dns_record_set.gateway["sandbox"].name == "www.googleapis.com.",
      google_dns_record_set.gateway["sandbox"].rrdatas == tolist(["199.36.153.8", "199.36.153.9", "199.36.153.10", "199.36.153.11"]),
    ])
    error_message = "It resolves the host of Google's certificates, and no other name."
  }
  assert {
    condition     = length(setintersection(keys(google_project_service.api), ["compute", "dns"])) == 2
    error_message = "The networks' APIs are enabled."
  }
}

run "open_egress" {
  command = plan

  variables {
    sandbox_egress     = true
    sandbox_cpu        = 4
    sandbox_memory_gib = 16
    environment = {
      MCP_SERVERS = "{\"search\":{\"command\":\"mcp-search\",\"network\":true,\"env\":{\"KEY\":\"k\"},\"in_sandbox\":true}}"
    }
  }

  assert {
    condition     = length(google_cloud_run_v2_service.sandbox[0].template[0].vpc_access) == 0
    error_message = "For servers with a network of their own it has Cloud Run's way to the internet."
  }
  assert {
    condition     = google_cloud_run_v2_service.sandbox[0].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && length(google_compute_network.gateway) == 2
    error_message = "Open egress changes nothing about who reaches it."
  }
  assert {
    condition = (
      google_cloud_run_v2_service.sandbox[0].template[0].scaling[0].max_instance_count == 1
      && google_cloud_run_v2_service.sandbox[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "4", memory = "16Gi" })
    )
    error_message = "Its size is the operator's."
  }
}

run "a_registered_server_that_needs_the_network_is_refused_without_egress" {
  command = plan

  variables {
    environment = { MCP_SERVERS = "{\"search\":{\"command\":\"mcp-search\",\"network\":true}}" }
  }

  expect_failures = [google_cloud_run_v2_service.sandbox]
}

run "a_registered_server_with_a_secret_that_is_not_marked_is_refused" {
  command = plan

  variables {
    environment = { MCP_SERVERS = "{\"search\":{\"command\":\"mcp-search\",\"env\":{\"KEY\":\"k\"}}}" }
  }

  expect_failures = [google_cloud_run_v2_service.sandbox]
}

run "an_old_image_beside_the_new_one" {
  command = plan

  variables {
    ws_image = "us-central1-docker.pkg.dev/gateway-test/gateway/ws@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].containers[0].image == "scratch"
    error_message = "An image of the companion of an earlier release is ignored."
  }
}

run "alerts" {
  command = plan

  assert {
    condition     = toset(keys(google_monitoring_alert_policy.sandbox)) == toset(["away", "unavailable", "unreachable"])
    error_message = "An alert for each way in which the service can be away."
  }
  assert {
    condition = alltrue([for policy in google_monitoring_alert_policy.sandbox : alltrue([
      length(policy.conditions[0].condition_matched_log) == 1,
      length(policy.alert_strategy[0].notification_rate_limit) == 1,
    ])])
    error_message = "They need no metric, and the policies have the rate limit that such policies must have."
  }
  assert {
    condition     = strcontains(google_logging_metric.calls.filter, "\"sandbox\"")
    error_message = "The dashboard and the alerts on errors watch the service as well."
  }
}
