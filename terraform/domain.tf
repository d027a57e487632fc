# Optional: one host name for all four endpoints, behind Cloud Armor. Only HTTPS is served: with a redirect from HTTP,
# clients would send the key unencrypted before the redirect.

locals {
  domain_count = var.domain == null ? 0 : 1
  # Only these services are reachable; deployments is not one of them.
  domain_services = var.domain == null ? {} : {
    for name in concat(local.served, var.companion.enabled ? ["ws"] : []) : name => name
  }
}

resource "google_compute_global_address" "gateway" {
  count      = local.domain_count
  name       = "gateway"
  depends_on = [time_sleep.apis]
}

# Created before the old one is destroyed, so its name must differ; it contains a hash of the host.
resource "google_compute_managed_ssl_certificate" "gateway" {
  count = local.domain_count
  name  = "gateway-${substr(sha256(var.domain), 0, 8)}"
  managed {
    domains = [var.domain]
  }
  depends_on = [time_sleep.apis]

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_region_network_endpoint_group" "endpoint" {
  for_each              = local.domain_services
  name                  = "gateway-${each.key}"
  region                = var.region
  network_endpoint_type = "SERVERLESS"
  cloud_run {
    service = (
      each.key == "ws"
      ? google_cloud_run_v2_service.companion[0].name
      : google_cloudfunctions2_function.function[each.key].name
    )
  }
}

resource "google_compute_backend_service" "endpoint" {
  for_each              = local.domain_services
  name                  = "gateway-${each.key}"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.gateway[0].id
  backend {
    group = google_compute_region_network_endpoint_group.endpoint[each.key].id
  }
  log_config {
    enable      = true
    sample_rate = 0.1
  }
}

resource "google_compute_security_policy" "gateway" {
  count       = local.domain_count
  name        = "gateway"
  description = "Limit per address, far above the limit of a key; the gateway enforces the limits of keys"

  # Bodies contain prompts, patches and commands, so rules against SQL or shell text would refuse valid calls. The only
  # rule limits the requests of one address, so that refusing them causes no cost in the gateway.
  rule {
    action      = "throttle"
    priority    = 1000
    description = "1200 requests a minute from one address"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = 1200
        interval_sec = 60
      }
    }
  }

  rule {
    action      = "allow"
    priority    = 2147483647
    description = "default"
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [time_sleep.apis]
}

resource "google_compute_url_map" "gateway" {
  count = local.domain_count
  name  = "gateway"
  # Responds to unknown paths with 404 as JSON.
  default_service = google_compute_backend_service.endpoint["jsonrpc"].id

  host_rule {
    hosts        = [var.domain]
    path_matcher = "endpoints"
  }

  path_matcher {
    name            = "endpoints"
    default_service = google_compute_backend_service.endpoint["jsonrpc"].id
    dynamic "path_rule" {
      for_each = local.domain_services
      content {
        paths   = ["/${path_rule.key}", "/${path_rule.key}/*"]
        service = google_compute_backend_service.endpoint[path_rule.key].id
      }
    }
  }
}

resource "google_compute_target_https_proxy" "gateway" {
  count            = local.domain_count
  name             = "gateway"
  url_map          = google_compute_url_map.gateway[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.gateway[0].id]
  ssl_policy       = google_compute_ssl_policy.gateway[0].id
}

# TLS 1.2 or later, with forward secrecy. The default also accepts TLS 1.0.
resource "google_compute_ssl_policy" "gateway" {
  count           = local.domain_count
  name            = "gateway"
  profile         = "RESTRICTED"
  min_tls_version = "TLS_1_2"
  depends_on      = [time_sleep.apis]
}

resource "google_compute_global_forwarding_rule" "gateway" {
  count                 = local.domain_count
  name                  = "gateway"
  target                = google_compute_target_https_proxy.gateway[0].id
  ip_address            = google_compute_global_address.gateway[0].id
  port_range            = "443"
  load_balancing_scheme = "EXTERNAL_MANAGED"
}
