# Waits until grants are effective. That takes up to a minute, and a build or an instance that starts earlier fails. The
# functions and the companion depend on this resource.

resource "time_sleep" "grants" {
  create_duration = "60s"
  # The triggers are ids and not etags, because an etag changes with every change of the policy.
  triggers = {
    grants = sha256(join(" ", concat(
      [
        google_artifact_registry_repository_iam_member.build.id,
        google_project_iam_member.build_source.id,
        google_storage_bucket_iam_member.build.id,
        google_project_iam_member.build_logs.id,
        google_storage_bucket_iam_member.run.id,
      ],
      [for grant in google_project_iam_member.firestore : grant.id],
      [for grant in google_project_iam_member.models : grant.id],
      [for grant in google_kms_crypto_key_iam_member.credentials : grant.id],
      [for grant in google_pubsub_topic_iam_member.publisher : grant.id],
      [for grant in google_secret_manager_secret_iam_member.keys : grant.id],
      [for grant in google_secret_manager_secret_iam_member.environment : grant.id],
    )))
  }
}
