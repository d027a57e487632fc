# Everything switched on, for the offline plan. No such project exists.
project_id    = "gateway-check"
region        = "europe-west1"
bundle_dir    = "tests/bundle"
domain        = "gateway.example.com"
sandbox_image = "europe-west1-docker.pkg.dev/gateway-check/gateway/sandbox@sha256:0000000000000000000000000000000000000000000000000000000000000000"
model         = "anthropic/claude-sonnet-5-5"
alert_email   = "ops@example.com"

allowed_origins    = ["https://gateway-check.web.app"]
environment        = { BFF_BASE_URL = "https://backend.example.com", MCP_SERVERS = "{\"files\":{\"command\":\"mcp-files\"},\"search\":{\"url\":\"https://search.example.com/mcp\"}}" }
secret_environment = { ANTHROPIC_API_KEY = "1", WEBHOOK_SECRETS = "2" }
scaling            = { min_instances = 1, max_instances = 50 }
budget             = { billing_account = "012345-6789AB-CDEF01", amount = 50 }

subscribers = {
  releases = { endpoint = "https://hooks.example.com/releases", events = ["deployment.success", "release.*"] }
  audit    = { service_account = "audit@gateway-check.iam.gserviceaccount.com", ordered = true }
}
