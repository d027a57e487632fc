# Vertex AI: only the permission to call a model. The role roles/aiplatform.user could also start jobs and delete data.

resource "google_project_iam_custom_role" "model_caller" {
  role_id     = "gatewayModelCaller"
  title       = "Codex Gateway: call models"
  permissions = ["aiplatform.endpoints.predict"]
  depends_on  = [time_sleep.apis]
}

resource "google_project_iam_member" "models" {
  for_each = toset([for name, uses in local.uses : name if contains(uses, "models")])
  project  = var.project_id
  role     = google_project_iam_custom_role.model_caller.name
  member   = local.members[each.key]
}
