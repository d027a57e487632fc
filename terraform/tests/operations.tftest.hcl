# What an operator relies on: alerts, the objective, the database and its recovery.

mock_provider "google" {
  override_during = plan
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "google-beta" {
  override_during = plan
}
mock_provider "archive" {
  override_during = plan
}
mock_provider "random" {
  override_during = plan
}
mock_provider "time" {
  override_during = plan
}

variables {
  project_id  = "gateway-test"
  bundle_dir  = "tests/bundle"
  alert_email = "ops@example.com"
}

run "alerts" {
  command = plan

  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.signal : length(policy.conditions[0].condition_matched_log) == 1 && length(policy.conditions[0].condition_threshold) == 0 && length(policy.alert_strategy[0].notification_rate_limit) == 1])
    error_message = "Alerts on lines of the log match the lines: none waits for a metric to exist."
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.threshold : !strcontains(policy.conditions[0].condition_threshold[0].filter, "logging.googleapis.com/user/")])
    error_message = "Alerts on numbers use metrics that Google Cloud has by itself."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.signal["keys_many"].conditions[0].condition_matched_log[0].filter, "all usable key versions are enabled")
    error_message = "The fiftieth key version raises an alert."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.no_sweep.conditions[0].condition_absent[0].filter, "\"2xx\"") && google_monitoring_alert_policy.no_sweep.conditions[0].condition_absent[0].duration == "900s"
    error_message = "Something that uses the database succeeds at least every 15 minutes."
  }
  assert {
    condition     = contains(keys(google_monitoring_alert_policy.threshold), "quota") && contains(keys(google_monitoring_alert_policy.threshold), "sweep") && !contains(keys(google_monitoring_alert_policy.threshold), "server_errors")
    error_message = "Quotas and the sweep raise alerts; a flat share of 5xx does not."
  }
  assert {
    condition = { for name, policy in google_monitoring_alert_policy.burn_rate : name => [for condition in policy.conditions : condition.condition_threshold[0].threshold_value] } == {
      fast = [14.4, 14.4, 5], slow = [6, 6, 5]
    }
    error_message = "The error budget raises a fast and a slow alert, neither about a few requests."
  }
  assert {
    condition     = google_monitoring_slo.availability.goal == 0.995 && !strcontains(google_monitoring_slo.availability.request_based_sli[0].good_total_ratio[0].total_service_filter, "health")
    error_message = "The objective counts requests of callers, not probes."
  }
  assert {
    condition     = alltrue([for policy in concat(values(google_monitoring_alert_policy.signal), values(google_monitoring_alert_policy.threshold), values(google_monitoring_alert_policy.burn_rate)) : length(policy.notification_channels) == 1])
    error_message = "Every alert has a receiver."
  }
  assert {
    condition     = output.alerts == "ops@example.com"
    error_message = "The output names the receiver."
  }
}

run "without_alert_email" {
  command = plan

  variables {
    alert_email = null
  }
  expect_failures = [check.alerts_have_a_receiver]
}

run "database" {
  command = plan

  assert {
    condition     = google_firestore_database.gateway.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" && google_firestore_backup_schedule.daily.retention == "604800s"
    error_message = "Any minute of the last week can be restored."
  }
  assert {
    condition     = alltrue([for field in google_firestore_field.field : field.skip_wait]) && alltrue([for index in google_firestore_index.index : index.skip_wait])
    error_message = "No apply waits for one index operation after the other."
  }
  assert {
    condition     = google_firebaserules_release.firestore.name == "cloud.firestore"
    error_message = "The rules are those of the default database."
  }
}

run "restored_database" {
  command = plan

  variables {
    database = "gateway-restored"
  }

  assert {
    condition = alltrue([
      google_firestore_database.gateway.name == "gateway-restored",
      google_firestore_backup_schedule.daily.database == "gateway-restored",
      alltrue([for field in google_firestore_field.field : field.database == "gateway-restored"]),
      alltrue([for index in google_firestore_index.index : index.database == "gateway-restored"]),
      google_firebaserules_release.firestore.name == "cloud.firestore/gateway-restored",
      alltrue([for grant in google_project_iam_member.firestore : grant.condition[0].expression == "resource.name == \"projects/gateway-test/databases/gateway-restored\""]),
      alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].environment_variables["GATEWAY_DATABASE"] == "gateway-restored"]),
      one([for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.value if env.name == "GATEWAY_DATABASE"]) == "gateway-restored",
    ])
    error_message = "Code, roles, rules, indexes and backups all go to the database that is named."
  }
}
