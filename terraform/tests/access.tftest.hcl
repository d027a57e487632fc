# Who reaches the endpoints: public access on and off, a domain on and off.

mock_provider "google" {
  override_during = plan
  mock_data "google_project" {
    defaults = { number = "123456789012" }
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
  target          = google_service_account.push
  override_during = plan
  values          = { email = "push", member = "serviceAccount:push" }
}
override_resource {
  target          = google_service_account.sweeper
  override_during = plan
  values          = { email = "sweeper", member = "serviceAccount:sweeper" }
}

override_resource {
  target          = google_project_service_identity.monitoring
  override_during = plan
  values          = { email = "monitoring", member = "serviceAccount:monitoring" }
}

variables {
  project_id  = "gateway-test"
  bundle_dir  = "tests/bundle"
  alert_email = "ops@example.com"
}

run "public_by_default" {
  command = plan

  assert {
    condition = alltrue([for grant in google_cloud_run_v2_service_iam_member.invoker : grant.role == "roles/run.invoker"]) && toset([
      for grant in google_cloud_run_v2_service_iam_member.invoker : "${grant.name} ${grant.member}"
      ]) == toset([
      "deployments serviceAccount:monitoring",
      "deployments serviceAccount:push",
      "deployments serviceAccount:sweeper",
      "health allUsers",
      "jsonrpc allUsers",
      "webhook allUsers",
    ])
    error_message = "Everyone may invoke what is public, and only Pub/Sub, Cloud Scheduler and uptime checks may invoke deployments."
  }
  assert {
    condition     = length(terraform_data.check_off) == 0 && length(terraform_data.check_on_again) == 0
    error_message = "With allUsers no check is switched off."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].ingress == "INGRESS_TRAFFIC_ALL" && length(google_compute_network.gateway) == 0
    error_message = "Without a load balancer the companion is reached directly."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].invoker_iam_disabled
    error_message = "The companion checks its callers itself."
  }
  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => function.service_config[0].ingress_settings } == {
      health = "ALLOW_ALL", jsonrpc = "ALLOW_ALL", webhook = "ALLOW_ALL", deployments = "ALLOW_ALL"
    }
    error_message = "Uptime checks, which come from outside, reach deployments; Cloud Run admits only its invokers."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.health) == 1 && output.base_url == "https://us-central1-gateway-test.cloudfunctions.net"
    error_message = "The base URL is the functions' own, and an uptime check requests it."
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
      "deployments serviceAccount:monitoring",
      "deployments serviceAccount:push",
      "deployments serviceAccount:sweeper",
      "health group:team@example.com",
      "health user:a@example.com",
      "jsonrpc group:team@example.com",
      "jsonrpc user:a@example.com",
      "webhook allUsers",
    ])
    error_message = <<-EOT
      Only `invokers` may invoke health and jsonrpc, and only Pub/Sub, Cloud Scheduler and uptime checks deployments;
      senders of webhooks have no Google identity.
    EOT
  }
  assert {
    condition = alltrue([
      google_monitoring_uptime_check_config.database[0].http_check[0].service_agent_authentication[0].type == "OIDC_TOKEN",
      "https://${google_monitoring_uptime_check_config.database[0].monitored_resource[0].labels.host}" == google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["PUSH_AUDIENCE"],
      google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["UPTIME_SERVICE_ACCOUNT"] == "monitoring",
    ])
    error_message = "An uptime check reads from the database, with the token that deployments accepts, also where nothing is public."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.health) == 0 && toset(keys(google_monitoring_alert_policy.uptime)) == toset(["database"])
    error_message = "IAM would refuse a check of /health, so there is none."
  }
  assert {
    condition     = strcontains(output.curl, "X-Serverless-Authorization: Bearer $(gcloud auth print-identity-token)")
    error_message = "The curl line sends the ID token that IAM requires, and the API key."
  }
}

run "without_all_users" {
  command = plan

  variables {
    invoker_check = "disabled"
  }

  assert {
    condition = toset([for grant in google_cloud_run_v2_service_iam_member.invoker : "${grant.name} ${grant.member}"]) == toset([
      "deployments serviceAccount:monitoring", "deployments serviceAccount:push", "deployments serviceAccount:sweeper",
    ])
    error_message = "No grant to allUsers is made, which domain-restricted sharing would refuse."
  }
  assert {
    condition     = toset(keys(terraform_data.check_off)) == toset(["health", "jsonrpc", "webhook"]) && toset(keys(terraform_data.check_on_again)) == toset(["health", "jsonrpc", "webhook"])
    error_message = "The invoker check of the public functions is switched off, and on again when it no longer is."
  }
  assert {
    condition     = google_cloudfunctions2_function.function["deployments"].service_config[0].environment_variables["PUSH_INVOKER_CHECK"] == "iam"
    error_message = "The check of deployments stays, so that it may accept tokens whose signature Cloud Run has removed."
  }
  assert {
    condition     = alltrue([for name, function in google_cloudfunctions2_function.function : !contains(keys(function.service_config[0].environment_variables), "PUSH_INVOKER_CHECK") if name != "deployments"])
    error_message = "A function that allUsers may invoke accepts no token without its signature."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.health) == 1
    error_message = "An uptime check requests what is public."
  }
}

run "private_without_all_users" {
  command = plan

  variables {
    invoker_check = "disabled"
    public_access = false
    invokers      = ["group:team@example.com"]
  }

  assert {
    condition = toset([for grant in google_cloud_run_v2_service_iam_member.invoker : "${grant.name} ${grant.member}"]) == toset([
      "deployments serviceAccount:monitoring",
      "deployments serviceAccount:push",
      "deployments serviceAccount:sweeper",
      "health group:team@example.com",
      "jsonrpc group:team@example.com",
    ]) && toset(keys(terraform_data.check_off)) == toset(["webhook"])
    error_message = "Everyone may invoke webhook only; `invokers` may invoke health and jsonrpc."
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
    condition = alltrue([
      google_cloud_run_v2_service.companion[0].ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
      google_cloudfunctions2_function.function["jsonrpc"].service_config[0].direct_vpc_egress == "VPC_EGRESS_PRIVATE_RANGES_ONLY",
      length(google_cloudfunctions2_function.function["jsonrpc"].service_config[0].direct_vpc_network_interface) == 1,
      length(google_cloudfunctions2_function.function["webhook"].service_config[0].direct_vpc_network_interface) == 0,
      google_dns_record_set.gateway["jsonrpc"].name == "ws-123456789012.us-central1.run.app.",
      google_dns_managed_zone.gateway["jsonrpc"].dns_name == "ws-123456789012.us-central1.run.app.",
      google_compute_firewall.closed["jsonrpc"].destination_ranges == toset(["0.0.0.0/0"]),
    ])
    error_message = "The companion has no public way in beside the load balancer; jsonrpc reaches it through a network."
  }
  assert {
    condition     = google_compute_ssl_policy.gateway[0].min_tls_version == "TLS_1_2" && google_compute_ssl_policy.gateway[0].profile == "RESTRICTED"
    error_message = "TLS before 1.2 is refused."
  }
  assert {
    condition     = google_compute_global_forwarding_rule.gateway[0].port_range == "443"
    error_message = "No key is sent over HTTP."
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
    error_message = "The uptime check requests the domain."
  }
  assert {
    condition = (
      length(google_monitoring_uptime_check_config.database) == 0 && toset(keys(google_monitoring_alert_policy.uptime)) == toset(["health"])
      && !contains(values(google_cloud_run_v2_service_iam_member.invoker)[*].member, "serviceAccount:monitoring")
    )
    error_message = "No uptime check goes to a function that is internal."
  }
}
