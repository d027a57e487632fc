# The database, with documents `<collection>/<id>` = {data, expire_at}. Indexes and TTL policies are in
# firestore.indexes.json, security rules in firestore.rules; the emulator and the Firebase CLI use the same files.

locals {
  firestore_config = jsondecode(file("${path.module}/firestore.indexes.json"))
}

resource "google_firestore_database" "gateway" {
  name        = var.database
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"
  # The gateway implements optimistic commits itself. Under contention it uses a transaction with locks, which must wait
  # for the lock and not fail.
  concurrency_mode        = "PESSIMISTIC"
  delete_protection_state = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = var.deletion_protection ? "ABANDON" : "DELETE"
  # Allows to read and restore the state of any minute of the last seven days, in addition to the daily backups.
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  depends_on                        = [time_sleep.apis]
}

resource "google_firestore_backup_schedule" "daily" {
  database  = google_firestore_database.gateway.name
  retention = "604800s"
  daily_recurrence {}
}

# Only the fields of `data` by which queries order are indexed: an index entry per field would be most of the cost of a
# write, and increasing values would create hot spots. `expire_at` is the expiry. The TTL policy is on every collection;
# documents without the field do not expire.
resource "google_firestore_field" "field" {
  for_each = {
    for field in local.firestore_config.fieldOverrides : "${field.collectionGroup} ${field.fieldPath}" => field
  }
  database   = google_firestore_database.gateway.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath
  # Each operation takes minutes, and Firestore executes them one after another, so the apply does not wait for them.
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
    join(" ", concat([index.collectionGroup], [
      for field in index.fields : "${field.fieldPath} ${try(field.order, field.arrayConfig)}"
    ]))
    => index
  }
  database    = google_firestore_database.gateway.name
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope
  skip_wait   = true

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path   = fields.value.fieldPath
      order        = try(fields.value.order, null)
      array_config = try(fields.value.arrayConfig, null)
    }
  }
}

# Denies access by browsers and mobile apps, independent of the settings of the project.
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

  # A change of the database replaces the grant; the new one is created before the old one is destroyed.
  lifecycle {
    create_before_destroy = true
  }
}
