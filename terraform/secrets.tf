# Secrets and who reads them. No value is ever in plan or state.

# API keys: every enabled version of this secret is valid (shared/README.md, keys). The gateway reads it itself, so a
# rotation needs no deployment.
resource "google_secret_manager_secret" "api_key" {
  secret_id = "gateway-api-key"
  replication {
    auto {}
  }
  depends_on = [time_sleep.apis]
}

# The first key, so that a new gateway can be called: 122 random bits, made while applying and sent only to Secret
# Manager (a write-only argument). Every later version is the operator's, by gcloud.
resource "google_secret_manager_secret_version" "first_key" {
  secret                 = google_secret_manager_secret.api_key.id
  secret_data_wo         = "gateway-key-${replace(uuid(), "-", "")}"
  secret_data_wo_version = 1

  lifecycle {
    # After a rotation this version is disabled, and an apply must not enable the old key again.
    ignore_changes = [enabled]
  }
}

# Listing the enabled versions and reading them are two roles.
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
  # Secrets that arrive as environment variables, the version pinned by the operator; nothing while none is.
  environment_secrets = {
    ANTHROPIC_API_KEY = {
      id = "anthropic-api-key", use = "models", version = lookup(var.secret_environment, "ANTHROPIC_API_KEY", null)
    }
    OPENAI_API_KEY = {
      id = "openai-api-key", use = "models", version = lookup(var.secret_environment, "OPENAI_API_KEY", null)
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

# To the accounts that use it, once the operator has named a version. A deployment waits until it is known everywhere
# (grants.tf).
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
