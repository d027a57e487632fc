# Who gets past IAM to a function. The public ones (webhook always, since senders of webhooks have no Google identity;
# health and jsonrpc with public_access) are open to everybody, and the code checks keys, signatures and tickets: either
# `allUsers` may invoke them, or, where an organisation refuses `allUsers`, Cloud Run does not check (invoker_check).
# The others have invokers: `invokers` for health and jsonrpc, and for deployments the accounts of Pub/Sub's pushes and
# of Cloud Scheduler, which belong to this project, so that an organisation may refuse strangers.

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
  )
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

# A function has no argument for the invoker check, its service has; and whether a deployment of the function keeps the
# setting of the service is not documented. So gcloud sets it after every deployment of the function.
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

# Switches the check on again when `invoker_check` or `public_access` says so: a setting that stayed off would leave a
# function open that the configuration calls closed. A deployment does not replace this.
resource "terraform_data" "check_on_again" {
  for_each = local.unchecked
  input    = { service = each.key, region = var.region, project = var.project_id }

  provisioner "local-exec" {
    when        = destroy
    command     = "gcloud run services update $SERVICE --invoker-iam-check --region=$REGION --project=$PROJECT -q"
    environment = { SERVICE = self.input.service, REGION = self.input.region, PROJECT = self.input.project }
  }
  # Destroyed, and the check on, before the function goes.
  depends_on = [google_cloudfunctions2_function.function]
}
