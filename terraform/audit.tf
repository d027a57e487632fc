# Logs who reads secrets, uses KMS keys, and reads or writes documents. By default, Cloud Audit Logs logs only changes
# of the configuration of these services.

resource "google_project_iam_audit_config" "data_access" {
  for_each = var.audit_logs ? toset(["secretmanager", "cloudkms", "datastore"]) : []
  project  = var.project_id
  # The audit config names Firestore datastore.googleapis.com.
  service = "${each.key}.googleapis.com"

  dynamic "audit_log_config" {
    for_each = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"]
    content {
      log_type = audit_log_config.value
      # Not logged for the gateway, which reads and writes documents all the time. Access by other accounts is unusual.
      exempted_members = each.key == "datastore" ? [
        for name, uses in local.uses : local.members[name] if contains(uses, "firestore")
      ] : []
    }
  }
  depends_on = [time_sleep.apis]
}
