# Who reads secrets, uses keys and touches documents. Cloud Audit Logs records changes of these services by itself, but
# reads only when asked to.

resource "google_project_iam_audit_config" "data_access" {
  for_each = var.audit_logs ? toset(["secretmanager", "cloudkms", "datastore"]) : []
  project  = var.project_id
  # Firestore's name here is datastore.googleapis.com.
  service = "${each.key}.googleapis.com"

  dynamic "audit_log_config" {
    for_each = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"]
    content {
      log_type = audit_log_config.value
      # The gateway reads and writes documents all the time; everybody else should not.
      exempted_members = each.key == "datastore" ? [
        for name, uses in local.uses : local.members[name] if contains(uses, "firestore")
      ] : []
    }
  }
  depends_on = [time_sleep.apis]
}
