# The database: documents `<collection>/<id>` = {data, expire_at}. Indexes and lifetimes are read from
# firestore.indexes.json, the rules from firestore.rules; the emulator and the Firebase CLI read the same two files.

locals {
  firestore_config = jsondecode(file("${path.module}/firestore.indexes.json"))
}

resource "google_firestore_database" "gateway" {
  name        = var.database
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"
  # The gateway commits optimistically by itself; its last resort, a locking transaction, must queue rather than fail.
  concurrency_mode        = "PESSIMISTIC"
  delete_protection_state = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = var.deletion_protection ? "ABANDON" : "DELETE"
  # Any minute of the last seven days can be read and restored, beside the daily backups.
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  depends_on                        = [time_sleep.apis]
}

resource "google_firestore_backup_schedule" "daily" {
  database  = google_firestore_database.gateway.name
  retention = "604800s"
  daily_recurrence {}
}

# `data` is not indexed but for the fields that queries order by: an index entry per field would be most of a write's
# cost, and rising values would make it a hot spot. `expire_at` is the lifetime; the policy is on every collection, as
# documents without the field stay.
resource "google_firestore_field" "field" {
  for_each = {
    for field in local.firestore_config.fieldOverrides : "${field.collectionGroup} ${field.fieldPath}" => field
  }
  database   = google_firestore_database.gateway.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath
  # Each operation takes minutes, and Firestore works through them one by one: nothing here waits for the last.
  skip_wait = true

  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes
      content {
        order       = indexes.value.order
        query_scope = indexes.value.queryScope
      }
    }
  }

  dynamic "ttl_config" {
    for_each = try(each.value.ttl, false) ? [true] : []
    content {}
  }
}

resource "google_firestore_index" "index" {
  for_each = {
    for index in local.firestore_config.indexes :
    join(" ", concat([index.collectionGroup], [for field in index.fields : "${field.fieldPath} ${field.order}"]))
    => index
  }
  database    = google_firestore_database.gateway.name
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope
  skip_wait   = true

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.fieldPath
      order      = fields.value.order
    }
  }
}

# No browser or phone may access the database, under any project settings.
resource "google_firebaserules_ruleset" "deny_all" {
  source {
    files {
      name    = "firestore.rules"
      content = file("${path.module}/firestore.rules")
    }
  }
  depends_on = [google_firestore_database.gateway]

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_firebaserules_release" "firestore" {
  name         = var.database == "(default)" ? "cloud.firestore" : "cloud.firestore/${var.database}"
  ruleset_name = google_firebaserules_ruleset.deny_all.name
}

resource "google_project_iam_member" "firestore" {
  for_each = toset([for name, uses in local.uses : name if contains(uses, "firestore")])
  project  = var.project_id
  role     = "roles/datastore.user"
  member   = local.members[each.key]
  condition {
    title      = "gateway database only"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.gateway.name}\""
  }

  # A change of the database replaces the grant: the new one is there first.
  lifecycle {
    create_before_destroy = true
  }
}
