# The Cloud Functions: one map describes them all. Each runs as its own account; what that account may do stands beside
# the resource it may do it to, for every deployable whose `uses` names it.

locals {
  # Known before anything exists, so that audiences and outputs need not wait for a function.
  functions_url = "https://${var.region}-${var.project_id}.cloudfunctions.net"

  functions = {
    # Answers without touching anything, so it may touch nothing.
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
      # Longer than a turn may take (GATEWAY_TURN_TIMEOUT_MS, 10 minutes): its stream ends before the request is cut.
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
    # Only Pub/Sub calls it, from inside Google's network.
    deployments = {
      memory  = "512Mi"
      timeout = 30
      warm    = false
      served  = false
      guarded = false
      uses    = ["firestore"]
    }
  }
  served = [for name, function in local.functions : name if function.served]

  # The functions and the companion alike: what each one uses.
  uses = merge({ for name, function in local.functions : name => function.uses }, { ws = local.companion_uses })

  members = merge(
    { for name, account in google_service_account.function : name => account.member },
    { ws = google_service_account.companion.member },
  )

  # Settings that every deployable reads.
  common_env = merge(
    var.environment,
    {
      GOOGLE_CLOUD_PROJECT  = var.project_id
      GOOGLE_CLOUD_LOCATION = var.region
      GATEWAY_TOPIC         = google_pubsub_topic.events.name
      GATEWAY_LIMITS        = var.limits
      GATEWAY_STORAGE_MB    = tostring(var.storage_mb)
    },
    var.model == null ? {} : { MODEL = var.model },
    length(var.allowed_origins) == 0 ? {} : { ALLOWED_ORIGINS = join(" ", sort(var.allowed_origins)) },
  )

  # What one function alone reads.
  function_env = {
    health = {}
    jsonrpc = {
      COMPANION_URL      = google_cloud_run_v2_service.companion.uri
      COMPANION_AUDIENCE = local.companion_audience
      SOCKET_URL         = local.websocket_url
      KMS_KEY            = google_kms_crypto_key.credentials.id
    }
    # Cloud Scheduler's token opens the sweeper, Pub/Sub's the subscriber.
    webhook = {
      PUSH_AUDIENCE        = local.audiences.sweeper
      PUSH_SERVICE_ACCOUNT = google_service_account.sweeper.email
      WEBHOOK_LIMITS       = var.webhook_limits
    }
    deployments = {
      PUSH_AUDIENCE        = local.audiences.deployments
      PUSH_SERVICE_ACCOUNT = google_service_account.push.email
    }
  }
  audiences = {
    sweeper     = "${local.functions_url}/webhook"
    deployments = "${local.functions_url}/deployments"
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
    # More than one call at a time needs a whole CPU; shared 80 times it is the cheapest form (terraform/README.md,
    # cost).
    available_cpu                    = "1"
    max_instance_request_concurrency = 80
    min_instance_count               = each.value.warm ? var.scaling.min_instances : 0
    max_instance_count               = var.scaling.max_instances
    # Behind the load balancer no request may bypass Cloud Armor. Pub/Sub and Scheduler of this project count as
    # internal.
    ingress_settings = (
      !each.value.served ? "ALLOW_INTERNAL_ONLY" : var.domain == null ? "ALLOW_ALL" : "ALLOW_INTERNAL_AND_GCLB"
    )

    environment_variables = merge(local.common_env, local.function_env[each.key])

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

locals {
  # Who gets past IAM to a function. With public access everybody does, and the code checks keys, signatures and tokens.
  # Without, IAM asks first where callers can bring a token for it. It cannot for webhook and deployments: senders of
  # webhooks have no Google identity, and from the token of Scheduler or Pub/Sub Cloud Run would take the signature that
  # the code has to see.
  invocations = merge([
    for name, function in local.functions : var.public_access || !function.guarded
    ? { "${name} all" = { function = name, member = "allUsers" } }
    : { for member in var.invokers : "${name} ${member}" => { function = name, member = member } }
  ]...)
}

# Replaced when the function is made anew, and only then. The id, not the whole function: an ordinary deployment changes
# the function in place, and taking the grant away for its duration would refuse every call.
resource "terraform_data" "invoked" {
  for_each         = local.invocations
  triggers_replace = google_cloudfunctions2_function.function[each.value.function].id
}

# On the service under the function: that is what answers the request, and a new one starts without grants.
resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = local.invocations
  location = var.region
  name     = google_cloudfunctions2_function.function[each.value.function].name
  role     = "roles/run.invoker"
  member   = each.value.member

  lifecycle {
    replace_triggered_by = [terraform_data.invoked[each.key]]
  }
}
