# Uploads the output of `npm run build` under the hash of its content. So the same build is the same object, and another
# build causes a deployment.

locals {
  # Cloud Functions builds from a zip file. Cloud Run without a build needs a gzipped tar file.
  bundle_types = merge({ functions = "zip" }, var.companion.enabled ? { companion = "tar.gz" } : {})
  bundles = {
    for name in keys(local.bundle_types) : name => {
      dir   = "${path.module}/${var.bundle_dir}/${name}"
      files = sort(fileset("${path.module}/${var.bundle_dir}/${name}", "**"))
    }
  }
  # The hash of names and contents, because the bytes of an archive differ between machines.
  bundle_hashes = {
    for name, bundle in local.bundles :
    name
    => substr(sha256(join("\n", [for file in bundle.files : "${filesha256("${bundle.dir}/${file}")} ${file}"])), 0, 16)
  }
  bundle_names = {
    for name, hash in local.bundle_hashes : name => "${name}-${hash}.${local.bundle_types[name]}"
  }
}

data "archive_file" "bundle" {
  for_each         = local.bundles
  type             = local.bundle_types[each.key]
  source_dir       = each.value.dir
  output_path      = "${path.module}/.terraform/bundles/${local.bundle_names[each.key]}"
  output_file_mode = "0644"

  lifecycle {
    precondition {
      condition     = contains(each.value.files, "package.json")
      error_message = "There is no bundle in ${each.value.dir}: run `npm run build` in the project first."
    }
  }
}

resource "google_storage_bucket" "source" {
  name                        = "${var.project_id}-gateway-source"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # Contains only files that a build can create again.
  force_destroy = true

  # Build contexts of build-sandbox-image.sh are used only once, so they are deleted soon.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 7
      matches_prefix = ["sandbox-image/"]
    }
  }

  depends_on = [time_sleep.apis]
}

resource "google_storage_bucket_object" "bundle" {
  for_each = data.archive_file.bundle
  bucket   = google_storage_bucket.source.name
  name     = local.bundle_names[each.key]
  source   = each.value.output_path

  lifecycle {
    # The old object is destroyed after the functions no longer use it.
    create_before_destroy = true
    # The name identifies the content, so an archive of the same files that another machine has created is not a change.
    ignore_changes = [source, detect_md5hash]
  }
}
