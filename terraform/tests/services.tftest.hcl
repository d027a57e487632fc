# What runs and how: the companion, the functions' form, the bundle's name. The sandbox service is in
# sandbox.tftest.hcl.

mock_provider "google" {
  override_during = plan
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "google-beta" {
  override_during = plan
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://ws-abc-uc.a.run.app" }
  }
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

override_resource {
  target          = google_service_account.function["jsonrpc"]
  override_during = plan
  values          = { email = "jsonrpc" }
}
override_resource {
  target          = google_kms_crypto_key.credentials
  override_during = plan
  values          = { id = "credentials" }
}

run "without_a_sandbox_service" {
  command = plan

  variables {
    scaling = { min_instances = 2, max_instances = 30 }
  }

  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].containers[0].image == "scratch" && endswith(google_cloud_run_v2_service.companion[0].template[0].containers[0].base_image_uri, "/runtimes/nodejs24")
    error_message = "The companion is source on Google's Node.js image."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].containers[0].source_code[0].cloud_storage_source[0].object == google_storage_bucket_object.bundle["companion"].name && can(regex("^companion-[0-9a-f]{16}\\.tar\\.gz$", google_storage_bucket_object.bundle["companion"].name)) && data.archive_file.bundle["companion"].type == "tar.gz"
    error_message = "It runs the companion's own bundle, as a gzipped tar."
  }
  assert {
    condition     = output.websocket_url == "wss://ws-123456789012.us-central1.run.app/ws"
    error_message = "The WebSocket URL is the companion's."
  }
  assert {
    condition     = google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables["COMPANION_URL"] == "https://ws-123456789012.us-central1.run.app"
    error_message = "jsonrpc has the address to forward to, which does not wait for the companion."
  }
  assert {
    condition     = google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables["SOCKET_URL"] == output.websocket_url
    error_message = "jsonrpc has the address of the WebSocket."
  }
  assert {
    condition = (google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables["COMPANION_AUDIENCE"] == one([for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.value if env.name == "COMPANION_AUDIENCE"])
    && one([for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.value if env.name == "COMPANION_CALLER"]) == google_service_account.function["jsonrpc"].email)
    error_message = "What jsonrpc forwards is what the companion accepts."
  }

  assert {
    condition     = google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables["TURNS"] == "companion" && alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].all_traffic_on_latest_revision])
    error_message = "Turns run in the companion, and a new revision serves at once."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].containers[0].liveness_probe[0].http_get[0].path == "/health"
    error_message = "A companion that no longer answers is replaced."
  }
  assert {
    condition = alltrue([
      google_cloud_run_v2_service.companion[0].template[0].timeout == "3600s",
      google_cloud_run_v2_service.companion[0].template[0].session_affinity,
      !google_cloud_run_v2_service.companion[0].template[0].containers[0].resources[0].cpu_idle,
      !google_cloud_run_v2_service.companion[0].deletion_protection,
    ])
    error_message = "Sockets live an hour, stay on their instance, and turns outlive them."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].scaling[0].max_instance_count == 30
    error_message = "The companion scales as the functions do."
  }

  assert {
    condition = alltrue([
      length(google_cloud_run_v2_service.sandbox) == 0,
      length(google_compute_network.gateway) == 0,
      length(google_monitoring_alert_policy.sandbox) == 0,
      length(google_cloud_run_v2_service.companion[0].template[0].vpc_access) == 0,
      length([for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env if startswith(env.name, "SANDBOX_")]) == 0,
      length(setintersection(keys(google_project_service.api), ["compute", "dns"])) == 0,
    ])
    error_message = "Without an image there is no service, no network and no alert for it."
  }

  assert {
    condition     = toset(keys(google_cloudfunctions2_function.function)) == toset(["health", "jsonrpc", "webhook", "deployments"])
    error_message = "One map, four functions."
  }

  assert {
    condition = alltrue([for name, function in google_cloudfunctions2_function.function : alltrue([
      function.name == name,
      function.build_config[0].entry_point == name,
      function.build_config[0].runtime == "nodejs24",
      function.service_config[0].available_cpu == "1",
      function.service_config[0].max_instance_request_concurrency == 80,
      function.service_config[0].max_instance_count == 30,
    ])])
    error_message = "Every function is named as its endpoint and shares its CPU among 80 calls."
  }

  assert {
    condition     = { for name, function in google_cloudfunctions2_function.function : name => function.service_config[0].min_instance_count } == { health = 0, jsonrpc = 2, webhook = 2, deployments = 0 }
    error_message = "Only what callers wait for is kept warm."
  }

  assert {
    condition     = length(distinct([for function in google_cloudfunctions2_function.function : function.build_config[0].source[0].storage_source[0].object])) == 1 && can(regex("^functions-[0-9a-f]{16}\\.zip$", google_cloudfunctions2_function.function["health"].build_config[0].source[0].storage_source[0].object))
    error_message = "All functions are one bundle, named by its content."
  }

  assert {
    condition     = google_firestore_database.gateway.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.gateway.deletion_policy == "ABANDON"
    error_message = "Destroy keeps the data unless an earlier apply said otherwise."
  }

  assert {
    condition     = alltrue([for field in google_firestore_field.field : length(field.ttl_config) == 1 if field.field == "expire_at"]) && length([for field in google_firestore_field.field : field if field.field == "data" && length(field.index_config[0].indexes) > 0]) == 0
    error_message = "expire_at is every collection's lifetime, and data is not indexed."
  }
}

run "erasable" {
  command = plan

  variables {
    deletion_protection = false
    companion           = { max_instances = 3 }
  }

  assert {
    condition     = google_firestore_database.gateway.delete_protection_state == "DELETE_PROTECTION_DISABLED" && google_firestore_database.gateway.deletion_policy == "DELETE"
    error_message = "With deletion_protection = false destroy erases the database."
  }
  assert {
    condition     = google_cloud_run_v2_service.companion[0].template[0].scaling[0].max_instance_count == 3
    error_message = "The companion's own number of instances counts."
  }
}

run "turns" {
  command = plan

  variables {
    turns   = "function"
    traffic = "held"
  }

  assert {
    condition     = google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables["TURNS"] == "function"
    error_message = "Turns run where the variable `turns` selects."
  }
  assert {
    condition = { for name, function in google_cloudfunctions2_function.function : name => function.service_config[0].all_traffic_on_latest_revision } == {
      health = false, jsonrpc = false, webhook = false, deployments = true
    }
    error_message = "A new revision waits for its traffic."
  }

  assert {
    condition = alltrue([
      alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].environment_variables["MALLOC_MMAP_THRESHOLD_"] == "131072"]),
      one([for env in google_cloud_run_v2_service.companion[0].template[0].containers[0].env : env.value if env.name == "MALLOC_MMAP_THRESHOLD_"]) == "131072",
    ])
    error_message = "Every instance returns large freed buffers to the system."
  }

  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].environment_variables["NODE_COMPILE_CACHE"] == "compile-cache"])
    error_message = "Functions start from the modules that their build has compiled."
  }
}

run "without_a_companion" {
  command = plan

  variables {
    companion = { enabled = false }
    domain    = "gateway.example.com"
  }

  assert {
    condition = alltrue([
      length(google_cloud_run_v2_service.companion) == 0,
      keys(google_storage_bucket_object.bundle) == ["functions"],
      length(google_compute_network.gateway) == 0,
      !contains(keys(google_compute_region_network_endpoint_group.endpoint), "ws"),
      length([for name in keys(google_project_iam_member.firestore) : name if name == "ws"]) == 0,
      output.websocket_url == null,
    ])
    error_message = "Nothing of the companion is left: no service, no bundle, no way to it, no role."
  }
  assert {
    condition = (
      google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables["TURNS"] == "function"
      && length(setintersection(keys(google_cloudfunctions2_function.function["jsonrpc"].service_config[0].environment_variables), ["COMPANION_URL", "SOCKET_URL"])) == 0
    )
    error_message = "Turns run in the function when there is no other place."
  }
}

run "no_bundle" {
  command = plan
  variables {
    bundle_dir = "tests/nothing-here"
  }
  expect_failures = [data.archive_file.bundle]
}
