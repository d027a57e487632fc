# Secrets, and the accounts that may read them. No value is in the plan or the state.

# The API keys: every enabled version of this secret is valid (shared/README.md, keys). The gateway reads the secret at
# run time, so a rotation needs no deployment.
resource "google_secret_manager_secret" "api_key" {
  secret_id = "gateway-api-key"
  replication {
    auto {}
  }
  depends_on = [time_sleep.apis]
}

# The first key of a new gateway: 122 random bits, which are created during the apply and sent only to Secret Manager (a
# write-only argument). The operator adds later versions with gcloud.
resource "google_secret_manager_secret_version" "first_key" {
  secret                 = google_secret_manager_secret.api_key.id
  secret_data_wo         = "gateway-key-${replace(uuid(), "-", "")}"
  secret_data_wo_version = 1

  lifecycle {
    # Ignored, because this version is disabled after a rotation, and an apply must not enable the old key again.
    ignore_changes = [enabled]
  }
}

# Two roles are needed: one to list the enabled versions, one to read them.
resource "google_secret_manager_secret_iam_member" "keys" {
  for_each = {
    for pair in setproduct(
      [for name, uses in local.uses : name if contains(uses, "keys")], ["secretAccessor", "viewer"]
    ) :
    "${pair[0]} ${pair[1]}" => { user = pair[0], role = pair[1] }
  }
  secret_id = google_secret_manager_secret.api_key.id
  role      = "roles/secretmanager.${each.value.role}"
  member    = local.members[each.value.user]
}

locals {
  # Secrets that are passed as environment variables, in the version that the operator has set. Without a version,
  # nothing is passed.
  environment_secrets = {
    ANTHROPIC_API_KEY = {
      id = "anthropic-api-key", use = "models", version = lookup(var.secret_environment, "ANTHROPIC_API_KEY", null)
    }
    OPENAI_API_KEY = {
      id = "openai-api-key", use = "models", version = lookup(var.secret_environment, "OPENAI_API_KEY", null)
    }
    MODEL_PROVIDERS = {
      id = "gateway-model-providers", use = "models", version = lookup(var.secret_environment, "MODEL_PROVIDERS", null)
    }
    MCP_SERVERS = {
      id = "gateway-mcp-servers", use = "models", version = lookup(var.secret_environment, "MCP_SERVERS", null)
    }
    WEBHOOK_SECRETS = {
      id      = "gateway-webhook-secrets",
      use     = "webhook_secrets",
      version = lookup(var.secret_environment, "WEBHOOK_SECRETS", null)
    }
  }
}

resource "google_secret_manager_secret" "environment" {
  for_each  = local.environment_secrets
  secret_id = each.value.id
  replication {
    auto {}
  }
  depends_on = [time_sleep.apis]
}

# Granted to the accounts that use the secret, if the operator has set a version. A deployment waits until the grant is
# effective (wait-for-grants.tf).
resource "google_secret_manager_secret_iam_member" "environment" {
  for_each = merge([
    for variable, secret in local.environment_secrets : {
      for name, uses in local.uses :
      "${variable} ${name}" => { variable = variable, user = name }
      if contains(uses, secret.use) && secret.version != null
    }
  ]...)
  secret_id = google_secret_manager_secret.environment[each.value.variable].id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.members[each.value.user]
}
