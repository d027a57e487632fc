# The Cloud Functions, described by one map. Each has its own service account. The roles of an account are in the file
# of the resource that they guard; `uses` lists the resources that a deployable uses.

locals {
  functions = {
    # A probe uses no other service, so the account has no role.
    health = {
      memory  = "256Mi"
      timeout = 10
      warm    = false
      served  = true
      guarded = true
      uses    = []
    }
    jsonrpc = {
      memory = "512Mi"
      # Longer than the maximum of a turn (GATEWAY_TURN_TIMEOUT_MS, 10 minutes), so that the stream ends before the
      # request is aborted.
      timeout = 660
      warm    = true
      served  = true
      guarded = true
      uses    = ["firestore", "keys", "kms", "models"]
    }
    webhook = {
      memory  = "512Mi"
      timeout = 60
      warm    = true
      served  = true
      guarded = false
      uses    = ["firestore", "keys", "publish", "webhook_secrets"]
    }
    # Called only by Pub/Sub, Cloud Scheduler and the uptime check. The timeout is longer than a sweep.
    deployments = {
      memory  = "512Mi"
      timeout = 60
      warm    = false
      served  = false
      guarded = true
      uses    = ["firestore", "publish"]
    }
  }
  served = [for name, function in local.functions : name if function.served]

  # The resources that each function and the companion use.
  uses = merge(
    { for name, function in local.functions : name => function.uses },
    var.companion.enabled ? { ws = local.companion_uses } : {},
  )

  members = merge(
    { for name, account in google_service_account.function : name => account.member },
    { ws = google_service_account.companion.member },
  )

  # Environment variables of all deployables.
  common_env = merge(
    # glibc returns freed buffers of this size at once. Without it the threshold grows, and an instance keeps buffers
    # of several MiB: the largest answers of a backend took 428 MiB of its 512 MiB, and 352 MiB with it.
    { MALLOC_MMAP_THRESHOLD_ = "131072" },
    var.environment,
    {
      GOOGLE_CLOUD_PROJECT  = var.project_id
      GOOGLE_CLOUD_LOCATION = var.region
      GATEWAY_DATABASE      = google_firestore_database.gateway.name
      GATEWAY_TOPIC         = google_pubsub_topic.events.name
      GATEWAY_LIMITS        = var.limits
      GATEWAY_STORAGE_MB    = tostring(var.storage_mb)
    },
    var.retention_days == null ? {} : { GATEWAY_RETENTION_DAYS = tostring(var.retention_days) },
    length(var.allowed_origins) == 0 ? {} : { ALLOWED_ORIGINS = join(" ", sort(var.allowed_origins)) },
  )

  # Environment variables of what calls models. Others do not have MODEL_PROVIDERS, so its models would be unknown
  # there.
  model_env = merge(
    var.model == null ? {} : { MODEL = var.model },
    length(var.models) == 0 ? {} : { MODELS = jsonencode({
      for id, facts in var.models : id => merge(
        { for name, value in facts : name => value if value != null && name != "price" },
        {
          for name, price in { price = facts.price } :
          name => { for rate, usd in price : rate => usd if usd != null } if price != null
        },
      )
    }) },
  )

  # Environment variables of one function only.
  function_env = {
    health = {}
    jsonrpc = merge(
      { KMS_KEY = google_kms_crypto_key.credentials.id, TURNS = local.turns },
      var.companion.enabled ? {
        COMPANION_URL      = local.service_urls.ws
        COMPANION_AUDIENCE = local.companion_audience
        SOCKET_URL         = local.websocket_url
      } : {},
    )
    webhook = { WEBHOOK_LIMITS = var.webhook_limits }
    # The accounts whose tokens the function accepts. Cloud Run admits only these (invokers.tf) and removes the
    # signatures of their tokens.
    deployments = merge(
      {
        PUSH_AUDIENCE         = local.service_urls.deployments
        PUSH_SERVICE_ACCOUNT  = google_service_account.push.email
        SWEEP_SERVICE_ACCOUNT = google_service_account.sweeper.email
        PUSH_INVOKER_CHECK    = "iam"
      },
      local.database_checked ? { UPTIME_SERVICE_ACCOUNT = google_project_service_identity.monitoring.email } : {},
    )
  }
}

resource "google_service_account" "function" {
  for_each     = local.functions
  account_id   = "gateway-${each.key}"
  display_name = "Codex Gateway: ${each.key}"
  depends_on   = [time_sleep.apis]
}

resource "google_cloudfunctions2_function" "function" {
  for_each    = local.functions
  name        = each.key
  location    = var.region
  description = "Codex Gateway: ${each.key}"

  build_config {
    runtime           = "nodejs24"
    entry_point       = each.key
    service_account   = google_service_account.build.id
    docker_repository = google_artifact_registry_repository.gateway.id
    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.bundle["functions"].name
      }
    }
  }

  service_config {
    service_account_email = google_service_account.function[each.key].email
    available_memory      = each.value.memory
    timeout_seconds       = each.value.timeout
    # More than one concurrent call needs a whole CPU. Sharing it among 80 calls is the cheapest configuration
    # (COST.md).
    available_cpu                    = "1"
    max_instance_request_concurrency = 80
    min_instance_count               = each.value.warm ? var.scaling.min_instances : 0
    max_instance_count               = var.scaling.max_instances
    # If false, a new revision receives no request before traffic.sh assigns some to it. Callers do not reach
    # deployments, so its requests are not split.
    all_traffic_on_latest_revision = var.traffic == "latest" || !each.value.served
    # With a load balancer, no request may bypass Cloud Armor. Requests of Pub/Sub and Cloud Scheduler in this project
    # count as internal, those of uptime checks do not: for them, deployments accepts external requests of its invokers.
    ingress_settings = (
      var.domain == null ? "ALLOW_ALL" : each.value.served ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_INTERNAL_ONLY"
    )

    # The route of jsonrpc to a companion without public ingress. Traffic to public addresses does not use this network.
    direct_vpc_egress = local.companion_internal && each.key == "jsonrpc" ? "VPC_EGRESS_PRIVATE_RANGES_ONLY" : null
    dynamic "direct_vpc_network_interface" {
      for_each = local.companion_internal && each.key == "jsonrpc" ? ["jsonrpc"] : []
      content {
        network    = google_compute_network.gateway[direct_vpc_network_interface.value].id
        subnetwork = google_compute_subnetwork.gateway[direct_vpc_network_interface.value].id
      }
    }

    environment_variables = merge(
      # What the build has written there (functions/server/lifecycle/fill-compile-cache.ts), relative to the directory
      # of the source.
      { NODE_COMPILE_CACHE = "compile-cache" },
      local.common_env,
      contains(each.value.uses, "models") ? local.model_env : {},
      local.function_env[each.key],
    )

    dynamic "secret_environment_variables" {
      for_each = {
        for name, secret in local.environment_secrets :
        name => secret if contains(each.value.uses, secret.use) && secret.version != null
      }
      content {
        key        = secret_environment_variables.key
        project_id = var.project_id
        secret     = google_secret_manager_secret.environment[secret_environment_variables.key].secret_id
        version    = secret_environment_variables.value.version
      }
    }
  }

  depends_on = [time_sleep.grants]
}
