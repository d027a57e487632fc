# The sandbox service on Cloud Run, only with `sandbox_image`: commands of callers, terminals, MCP servers and Codex.
# Its account has no role, it gets no secret, and only the companion may call it. Its network is in sandbox-network.tf.

locals {
  sandbox_count = var.sandbox_image == null ? 0 : 1
  # Not its URL, which only exists once the service does.
  sandbox_audience = "codex-gateway-sandbox.${var.project_id}"
  # Of the MCP servers that the administrator registered, the programs: they run here. Those with a URL are reached by
  # the companion.
  sandbox_servers = {
    for name, server in try(jsondecode(coalesce(var.sandbox_mcp_servers, var.environment["MCP_SERVERS"])), {}) :
    name => server if can(server.command)
  }
  # Host, port and directory are the image's.
  sandbox_env = merge(
    {
      SANDBOX_AUDIENCE = local.sandbox_audience
      SANDBOX_CALLERS  = google_service_account.companion.email
    },
    length(local.sandbox_servers) == 0 ? {} : { MCP_SERVERS = jsonencode(local.sandbox_servers) },
  )
}

# Without any role: the metadata server gives its token to every process that breaks out, and the token opens nothing.
resource "google_service_account" "sandbox" {
  count        = local.sandbox_count
  account_id   = "gateway-sandbox"
  display_name = "Codex Gateway: sandbox, without roles"
  depends_on   = [time_sleep.apis]
}

resource "google_cloud_run_v2_service" "sandbox" {
  count       = local.sandbox_count
  name        = "sandbox"
  location    = var.region
  description = "Codex Gateway: commands, terminals, MCP servers and Codex"
  # Workspaces are gone with the instance in any case.
  deletion_protection = false
  # Cloud Run admits only the account that sandbox_invoker names. It checks the token in X-Serverless-Authorization and
  # leaves the one in Authorization as it is, whose signature and account (SANDBOX_CALLERS) the program checks.
  invoker_iam_disabled = false
  custom_audiences     = [local.sandbox_audience]
  # Only from the networks of this project: the companion comes through one of its own.
  ingress = "INGRESS_TRAFFIC_INTERNAL_ONLY"

  template {
    service_account = google_service_account.sandbox[0].email
    # Linux itself, with the namespaces that bubblewrap uses.
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
    # The longest Cloud Run allows; a companion moves its connection to a new one before.
    timeout = "3600s"
    # Connections of companions, each as long as it is open.
    max_instance_request_concurrency = 1000

    scaling {
      min_instance_count = 0
      max_instance_count = var.sandbox_instances
    }

    # Without it, Cloud Run's own way to the internet.
    dynamic "vpc_access" {
      for_each = var.sandbox_egress ? [] : ["sandbox"]
      content {
        egress = "ALL_TRAFFIC"
        network_interfaces {
          network    = google_compute_network.gateway[vpc_access.value].id
          subnetwork = google_compute_subnetwork.gateway[vpc_access.value].id
        }
      }
    }

    containers {
      image = var.sandbox_image

      ports {
        container_port = 8080
      }

      resources {
        limits = { cpu = tostring(var.sandbox_cpu), memory = "${var.sandbox_memory_gib}Gi" }
        # What runs goes on between requests. An instance is paid for while a companion is connected to it.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 60
        http_get {
          path = "/health"
          port = 8080
        }
      }

      # A process that no longer answers is replaced; commands that use all CPUs must not look like that.
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 6
        http_get {
          path = "/health"
          port = 8080
        }
      }

      dynamic "env" {
        for_each = local.sandbox_env
        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }

  lifecycle {
    # The service would not start.
    precondition {
      condition = alltrue([
        for server in local.sandbox_servers : length(try(server.env, {})) == 0 || try(server.in_sandbox, false)
      ])
      error_message = <<-EOT
        A program in MCP_SERVERS has "env", which everything that breaks out in the sandbox service could read: mark it
        with "in_sandbox": true, or take the secret away.
      EOT
    }
    precondition {
      condition = var.sandbox_egress || alltrue([
        for server in local.sandbox_servers : !try(server.network, false)
      ])
      error_message = <<-EOT
        A program in MCP_SERVERS has "network": true, and there is no network in the sandbox service: set
        sandbox_egress = true, or take "network" away.
      EOT
    }
  }

  # An instance that starts before its firewall would have the way out.
  depends_on = [time_sleep.apis, google_compute_firewall.closed]
}

# Nothing waits the minute that a grant needs: a call that is refused in it says so, and the next one connects again.
resource "google_cloud_run_v2_service_iam_member" "sandbox_invoker" {
  count    = local.sandbox_count
  location = google_cloud_run_v2_service.sandbox[0].location
  name     = google_cloud_run_v2_service.sandbox[0].name
  role     = "roles/run.invoker"
  member   = google_service_account.companion.member
}
