# Who may invoke a function. The public functions (webhook always, because senders of webhooks have no Google identity;
# health and jsonrpc with public_access) can be invoked by everyone, and the code checks keys, signatures and tickets.
# That is configured either by the invoker `allUsers`, or, if an organisation forbids `allUsers`, by disabling the
# invoker check of Cloud Run (invoker_check). The other functions have invokers: `invokers` for health and jsonrpc; for
# deployments the accounts of Pub/Sub pushes, of Cloud Scheduler and of uptime checks, which belong to this project, so
# that an organisation that forbids external members allows them.

locals {
  public = [
    for name, function in local.functions : name if function.served && (var.public_access || !function.guarded)
  ]
  unchecked = toset(var.invoker_check == "disabled" ? local.public : [])
  invocations = merge(
    {
      for name in local.public : "${name} all" => { function = name, member = "allUsers" } if var.invoker_check == "iam"
    },
    merge([
      for name, function in local.functions :
      { for member in var.invokers : "${name} ${member}" => { function = name, member = member } }
      if function.served && !contains(local.public, name)
    ]...),
    {
      "deployments push"    = { function = "deployments", member = google_service_account.push.member }
      "deployments sweeper" = { function = "deployments", member = google_service_account.sweeper.member }
    },
    local.database_checked ? {
      "deployments uptime" = { function = "deployments", member = google_project_service_identity.monitoring.member }
    } : {},
  )
}

# Replaced only when the function is created again. It refers to the id and not to the whole function: an ordinary
# deployment changes the function in place, and removing the grant meanwhile would refuse every call.
resource "terraform_data" "invoked" {
  for_each         = local.invocations
  triggers_replace = google_cloudfunctions2_function.function[each.value.function].id
}

# The grant is on the Cloud Run service of the function, which receives the requests. A new service has no grants.
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

# The Terraform resource of a function has no argument for the invoker check; only its Cloud Run service has one. It is
# not documented whether a deployment of the function keeps that setting, so gcloud sets it after every deployment.
resource "terraform_data" "check_off" {
  for_each = local.unchecked

  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.function[each.key]]
  }
  provisioner "local-exec" {
    command     = "gcloud run services update $SERVICE --no-invoker-iam-check --region=$REGION --project=$PROJECT -q"
    environment = { SERVICE = each.key, REGION = var.region, PROJECT = var.project_id }
  }
}

# Enables the check again when `invoker_check` or `public_access` require it; otherwise a function would stay public
# although the configuration says that it is not. A deployment does not replace this resource.
resource "terraform_data" "check_on_again" {
  for_each = local.unchecked
  input    = { service = each.key, region = var.region, project = var.project_id }

  provisioner "local-exec" {
    when        = destroy
    command     = "gcloud run services update $SERVICE --invoker-iam-check --region=$REGION --project=$PROJECT -q"
    environment = { SERVICE = self.input.service, REGION = self.input.region, PROJECT = self.input.project }
  }
  # Destroyed before the function, so that the check is enabled first.
  depends_on = [google_cloudfunctions2_function.function]
}
