# The networks around services that accept internal requests only. They contain only addresses of Cloud Run and are not
# connected to each other. They allow one destination: Google's own services, at the addresses of
# private.googleapis.com, which are not routed on the internet.
#   jsonrpc  with `domain`: the route of the function to the companion, which accepts external requests only from the
#            load balancer
#   ws       with `sandbox_image`: the route of the companion to the sandbox service, which accepts requests only from
#            networks of this project; other requests of the companion do not use this network
#   sandbox  with `sandbox_image`: all traffic that the sandbox service sends. It may read the certificates with which
#            it verifies the token of the companion

locals {
  # Cloud Run takes up to four addresses for an instance during a deployment.
  gateway_networks = merge(
    var.sandbox_image == null ? {} : { ws = "10.0.0.0/20", sandbox = "10.0.0.0/26" },
    local.companion_internal ? { jsonrpc = "10.0.0.0/20" } : {},
  )
  # https://cloud.google.com/vpc/docs/configure-private-google-access
  google_services = "199.36.153.8/30"
  # The DNS names of these addresses. The sandbox service can resolve no other name, because a DNS query can carry data
  # out of the network.
  gateway_zones = {
    for network, name in merge(
      var.sandbox_image == null ? {} : { ws = local.service_urls.sandbox, sandbox = "https://www.googleapis.com" },
      local.companion_internal ? { jsonrpc = local.service_urls.ws } : {},
    ) : network => "${trimprefix(name, "https://")}."
  }
}

resource "google_compute_network" "gateway" {
  for_each                = local.gateway_networks
  name                    = "gateway-${each.key}"
  description             = "Codex Gateway: only the addresses of the Cloud Run service ${each.key}"
  auto_create_subnetworks = false
  depends_on              = [time_sleep.apis]
}

resource "google_compute_subnetwork" "gateway" {
  for_each                 = local.gateway_networks
  name                     = "gateway-${each.key}"
  region                   = var.region
  network                  = google_compute_network.gateway[each.key].id
  ip_cidr_range            = each.value
  private_ip_google_access = true
}

resource "google_compute_firewall" "closed" {
  for_each           = local.gateway_networks
  name               = "gateway-${each.key}-closed"
  description        = "Nothing leaves this network"
  network            = google_compute_network.gateway[each.key].id
  direction          = "EGRESS"
  priority           = 65000
  destination_ranges = ["0.0.0.0/0"]
  deny {
    protocol = "all"
  }
}

resource "google_compute_firewall" "google_services" {
  for_each           = local.gateway_networks
  name               = "gateway-${each.key}-google"
  description        = "Except to Google's own services"
  network            = google_compute_network.gateway[each.key].id
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = [local.google_services]
  allow {
    protocol = "tcp"
    ports    = ["443"]
  }
}

resource "google_dns_managed_zone" "gateway" {
  for_each    = local.gateway_zones
  name        = "gateway-${each.key}"
  description = "Codex Gateway: names that lead to Google's own services"
  dns_name    = each.key == "sandbox" ? "." : each.value
  visibility  = "private"
  private_visibility_config {
    networks {
      network_url = google_compute_network.gateway[each.key].id
    }
  }
}

resource "google_dns_record_set" "gateway" {
  for_each     = local.gateway_zones
  managed_zone = google_dns_managed_zone.gateway[each.key].name
  name         = each.value
  type         = "A"
  ttl          = 300
  rrdatas      = [for host in range(4) : cidrhost(local.google_services, host)]
}
