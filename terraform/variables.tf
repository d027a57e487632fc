# The settings of an operator. Other values are constants in the file of their resource.

variable "project_id" {
  description = "Google Cloud project to deploy into; billing must be enabled."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is the id of a project: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of all regional resources. firebase.json contains the same one for Hosting."
  type        = string
  default     = "us-central1"
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region is a Google Cloud region such as us-central1."
  }
}

variable "firestore_location" {
  description = <<-EOT
    Location of the database, which can never be changed: a region, or the multi-regions nam5 or eur3. Default: region.
  EOT
  type        = string
  default     = null
  validation {
    condition = var.firestore_location == null || can(
      regex("^([a-z]+[0-9]|[a-z]+-[a-z]+[0-9]{1,2})$", var.firestore_location)
    )
    error_message = "firestore_location is a region such as us-central1, or nam5 or eur3."
  }
}

variable "database" {
  description = <<-EOT
    Id of the Firestore database. Change it only after a restore, which always creates a new database (OPERATIONS.md,
    restore).
  EOT
  type        = string
  default     = "(default)"
  validation {
    condition     = can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.database))
    error_message = "database is (default), or 4 to 63 lower-case letters, digits and hyphens."
  }
}

variable "deletion_protection" {
  description = <<-EOT
    Prevents Terraform from deleting the database. `terraform destroy` deletes data only after an apply with false.
  EOT
  type        = bool
  default     = true
}

variable "public_access" {
  description = <<-EOT
    true: the endpoints are public, and the gateway checks API keys and signatures. false: for health and jsonrpc,
    Google IAM also requires an ID token of one of `invokers` in the header X-Serverless-Authorization. Senders of
    webhooks and browsers have no such token, so webhook and ws only check keys, signatures and tickets.
  EOT
  type        = bool
  default     = true
}

variable "invokers" {
  description = <<-EOT
    IAM members that may call health and jsonrpc when public_access is false, for example group:team@example.com.
  EOT
  type        = set(string)
  default     = []
  validation {
    condition = alltrue([
      for member in var.invokers :
      can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))
    ])
    error_message = "invokers are IAM members such as user:a@example.com; use public_access for allUsers."
  }
}

variable "invoker_check" {
  description = <<-EOT
    How an endpoint is made public. iam: Cloud Run checks invokers, and `allUsers` is an invoker. disabled: Cloud Run
    does not check invokers, and no grant to `allUsers` is created, as organisations with domain-restricted sharing (the
    default of new ones) require. disabled needs gcloud on the machine that runs Terraform, because the resource of a
    function has no argument for it.
  EOT
  type        = string
  default     = "iam"
  validation {
    condition     = contains(["iam", "disabled"], var.invoker_check)
    error_message = "invoker_check is iam or disabled."
  }
}

variable "turns" {
  description = <<-EOT
    Where prompts run. companion (default): on the companion, which keeps its CPU when the client disconnects. function:
    in jsonrpc, which is charged per request; the platform may withdraw the CPU from a turn whose client has
    disconnected. Without a companion: function.
  EOT
  type        = string
  default     = null
  validation {
    condition     = var.turns == null || contains(["companion", "function"], coalesce(var.turns, "companion"))
    error_message = "turns is companion or function."
  }
  validation {
    condition     = var.turns != "companion" || var.companion.enabled
    error_message = "turns = \"companion\" needs the companion: leave companion.enabled true."
  }
}

variable "traffic" {
  description = <<-EOT
    latest: a new revision of a function receives all requests immediately. held: it receives none until `gcloud run
    services update-traffic` assigns some to it (a canary; not possible on the first apply).
  EOT
  type        = string
  default     = "latest"
  validation {
    condition     = contains(["latest", "held"], var.traffic)
    error_message = "traffic is latest or held."
  }
}

variable "domain" {
  description = <<-EOT
    Host name of a load balancer with Cloud Armor for all four endpoints (about 18 USD a month). Default: none.
  EOT
  type        = string
  default     = null
  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain is a host name such as gateway.example.com, without https://."
  }
}

variable "sandbox_image" {
  description = <<-EOT
    Container image of the sandbox service, by digest, as build-sandbox-image.sh prints it. Default: no sandbox service;
    calls for commands, terminals, local MCP servers and Codex fail with 403.
  EOT
  type        = string
  default     = null
  validation {
    condition     = var.sandbox_image == null || can(regex("^[a-z0-9.-]+/.+@sha256:[0-9a-f]{64}$", var.sandbox_image))
    error_message = "sandbox_image is an image by digest: REGION-docker.pkg.dev/PROJECT/gateway/sandbox@sha256:..."
  }
}

variable "sandbox_instances" {
  description = <<-EOT
    Number of instances of the sandbox service: 1. An owner's files, terminals and MCP servers are on one instance, and
    Cloud Run cannot route a connection of the companion to a given instance. Increase CPU and memory instead.
  EOT
  type        = number
  default     = 1
  validation {
    condition     = var.sandbox_instances == 1
    error_message = <<-EOT
      sandbox_instances is 1: on a second instance an owner would find other files, and terminals and MCP servers of the
      first would not be found. Remove it, and raise sandbox_cpu and sandbox_memory_gib instead.
    EOT
  }
}

variable "sandbox_cpu" {
  description = <<-EOT
    CPUs of an instance of the sandbox service, shared by all running commands. At least 2 are recommended, so that one
    busy command does not block the process of the service.
  EOT
  type        = number
  default     = 2
  validation {
    condition     = contains([1, 2, 4, 6, 8], var.sandbox_cpu)
    error_message = "sandbox_cpu is 1, 2, 4, 6 or 8, as Cloud Run allows."
  }
}

variable "sandbox_memory_gib" {
  description = <<-EOT
    Memory of an instance of the sandbox service in GiB, for processes (a Codex process uses 141 MiB) and for all files,
    because the file system of Cloud Run is in memory. The disk limits of workspaces are derived from it.
  EOT
  type        = number
  default     = 4
  validation {
    condition     = var.sandbox_memory_gib >= 1 && var.sandbox_memory_gib <= 4 * var.sandbox_cpu
    error_message = "sandbox_memory_gib is from 1 to four times sandbox_cpu, as Cloud Run allows."
  }
}

variable "sandbox_egress" {
  description = <<-EOT
    Gives the sandbox service access to the internet, for MCP servers registered with "network": true. All other
    processes still have no network, but a process that breaks out of its sandbox has internet access, too.
  EOT
  type        = bool
  default     = false
}

variable "ws_image" {
  description = <<-EOT
    No longer used: the image of the companion in earlier releases. The companion needs none; the processes of callers
    now run in the sandbox service, sandbox_image (terraform/README.md, upgrade). Ignored if sandbox_image is set.
  EOT
  type        = string
  default     = null
  validation {
    condition     = var.ws_image == null || var.sandbox_image != null
    error_message = <<-EOT
      ws_image was the image of the companion, which the sandbox service replaces: run `npm run build` and
      terraform/build-sandbox-image.sh, replace ws_image by the sandbox_image line that it prints, and plan again.
      Without either, calls for commands, terminals, local MCP servers and Codex fail with 403.
    EOT
  }
}

variable "limits" {
  description = "Maximum calls of an API key per minute, hour and day, for keys without limits of their own."
  type        = string
  default     = "100/minute,1000/hour,10000/day"
  validation {
    condition     = can(regex("^[1-9][0-9]*/(minute|hour|day)(,[1-9][0-9]*/(minute|hour|day))*$", var.limits))
    error_message = "limits are written as 100/minute,1000/hour,10000/day."
  }
  validation {
    condition = can(regex("/", var.limits)) && length(
      distinct([for limit in split(",", var.limits) : reverse(split("/", limit))[0]])
    ) == length(split(",", var.limits))
    error_message = "limits name each window once."
  }
}

variable "storage_mb" {
  description = <<-EOT
    Megabytes of messages that an API key may store. Above it, prompts are refused until sessions are deleted.
  EOT
  type        = number
  default     = 1024
  validation {
    condition     = var.storage_mb >= 1 && floor(var.storage_mb) == var.storage_mb
    error_message = "storage_mb is a whole number of megabytes, at least 1."
  }
}

variable "retention_days" {
  description = <<-EOT
    Days for which a session without its own retention_days is kept after its last use. Default: until it is deleted.
  EOT
  type        = number
  default     = null
  validation {
    condition = (
      var.retention_days == null ? true : var.retention_days >= 1 && var.retention_days <= 3650
      && floor(var.retention_days) == var.retention_days
    )
    error_message = "retention_days is a whole number of days, from 1 to 3650."
  }
}

variable "webhook_limits" {
  description = "Maximum calls per webhook secret and window. GitHub does not repeat a refused delivery."
  type        = string
  default     = "1000/minute"
  validation {
    condition     = can(regex("^[1-9][0-9]*/(minute|hour|day)(,[1-9][0-9]*/(minute|hour|day))*$", var.webhook_limits))
    error_message = "webhook_limits are written as 100/minute,1000/hour,10000/day."
  }
  validation {
    condition = can(regex("/", var.webhook_limits)) && length(
      distinct([for limit in split(",", var.webhook_limits) : reverse(split("/", limit))[0]])
    ) == length(split(",", var.webhook_limits))
    error_message = "webhook_limits name each window once."
  }
}

variable "model" {
  description = <<-EOT
    Default model, as provider/model. Default: that of the first provider with credentials; Vertex AI always has
    credentials. The provider may be one of MODEL_PROVIDERS (secret_environment, or environment for servers without
    keys).
  EOT
  type        = string
  default     = null
  validation {
    condition = (
      var.model == null || can(regex("^((anthropic|openai|google|codex)/\\S+|offline/(echo|slow))$", var.model)) || (
        can(regex("^[a-z][a-z0-9-]{0,31}/\\S+$", var.model))
        && contains(concat(keys(var.environment), keys(var.secret_environment)), "MODEL_PROVIDERS")
      )
    )
    error_message = <<-EOT
      model is anthropic/..., openai/..., google/..., codex/..., offline/echo, offline/slow, or of a provider of
      MODEL_PROVIDERS.
    EOT
  }
}

variable "models" {
  description = <<-EOT
    Properties of models that no API returns, by provider/model: windows and output limits in tokens, kinds of input,
    prices in USD per million tokens.
  EOT
  type = map(object({
    context_tokens    = optional(number)
    max_output_tokens = optional(number)
    input             = optional(list(string))
    reasoning         = optional(bool)
    output_schema     = optional(bool)
    price = optional(object({
      input        = number
      output       = number
      cached_input = optional(number)
      cache_write  = optional(number)
    }))
  }))
  default = {}
  validation {
    condition     = alltrue([for id in keys(var.models) : can(regex("^[a-z][a-z0-9-]*/\\S+$", id))])
    error_message = "models are named provider/model."
  }
}

variable "allowed_origins" {
  description = "Exact origins of web pages that may call the gateway, for example [\"https://PROJECT.web.app\"]."
  type        = set(string)
  default     = []
  validation {
    condition = alltrue(
      [for origin in var.allowed_origins : can(regex("^https?://[a-z0-9.-]+(:[0-9]+)?$", origin))]
    )
    error_message = "allowed_origins are exact origins such as https://app.example.com, without a path."
  }
}

variable "environment" {
  description = <<-EOT
    Other environment variables of the gateway (BFF_BASE_URL, MCP_SERVERS, MODEL_PROVIDERS, ANTHROPIC_BASE_URL, ...).
    Must not contain secrets.
  EOT
  type        = map(string)
  default     = {}
  validation {
    condition = alltrue([
      for name in keys(var.environment) :
      can(regex("^[A-Z][A-Z0-9_]*$", name))
      && !can(regex("(API_KEY|SECRET|SECRETS|TOKEN|PASSWORD|GATEWAY_KEYS)$", name))
    ])
    error_message = "environment takes no secrets: use secret_environment."
  }
  validation {
    condition = !can(regex(
      "api_key|headers|[?&][^\"=]*(key|token|secret|sig|code|password)[^\"=]*=",
      lower(lookup(var.environment, "MODEL_PROVIDERS", ""))
    ))
    error_message = "MODEL_PROVIDERS with keys, headers or a key in an address is a secret: use secret_environment."
  }
  validation {
    condition = length(
      setintersection(keys(var.environment), ["PORT", "HOST", "K_SERVICE", "FUNCTION_TARGET", "GOOGLE_CLOUD_PROJECT"])
    ) == 0
    error_message = "PORT, HOST, K_SERVICE, FUNCTION_TARGET and GOOGLE_CLOUD_PROJECT are set by the deployment."
  }
}

variable "secret_environment" {
  description = <<-EOT
    The version of each secret that the gateway receives, for example {ANTHROPIC_API_KEY = "1"}. The first apply creates
    the secrets; add a value with `gcloud secrets versions add`, then set its version here. For a rotation, set the new
    version.
  EOT
  type        = map(string)
  default     = {}
  validation {
    condition = length(
      setsubtract(
        keys(var.secret_environment),
        ["ANTHROPIC_API_KEY", "MCP_SERVERS", "MODEL_PROVIDERS", "OPENAI_API_KEY", "WEBHOOK_SECRETS"]
      )
    ) == 0
    error_message = <<-EOT
      secret_environment accepts ANTHROPIC_API_KEY, MCP_SERVERS, MODEL_PROVIDERS, OPENAI_API_KEY and WEBHOOK_SECRETS.
    EOT
  }
  validation {
    condition     = length(setintersection(keys(var.secret_environment), keys(var.environment))) == 0
    error_message = "A variable is either in environment or in secret_environment."
  }
  validation {
    condition     = alltrue([for version in values(var.secret_environment) : can(regex("^[1-9][0-9]*$", version))])
    error_message = <<-EOT
      A version is a number. "latest" would select the newest version even if it is disabled, and no instance could
      start.
    EOT
  }
}

variable "subscribers" {
  description = <<-EOT
    Subscribers of the events, by subscription name: `endpoint` (an HTTPS URL, to which events are pushed with an OIDC
    token of the account gateway-push) or `service_account` (an account that pulls). `events` filters by event name; a
    trailing * matches a prefix; without it, all events are sent. A subscriber receives an event at least once and
    recognises duplicates by the attribute ce-id.
  EOT
  type = map(object({
    endpoint             = optional(string)
    service_account      = optional(string)
    events               = optional(list(string), [])
    ordered              = optional(bool, false)
    ack_deadline_seconds = optional(number, 60)
  }))
  default = {}
  validation {
    condition = alltrue([
      for name, _ in var.subscribers :
      can(regex("^[a-z][a-z0-9-]{2,62}$", name)) && !contains(["deployments", "dead-letters"], name)
    ])
    error_message = <<-EOT
      A subscriber's name is 3 to 63 lower-case letters, digits and hyphens; deployments and dead-letters are reserved.
    EOT
  }
  validation {
    condition = alltrue([
      for subscriber in values(var.subscribers) :
      (subscriber.endpoint == null) != (subscriber.service_account == null)
    ])
    error_message = "A subscriber has either an endpoint or a service_account."
  }
  validation {
    condition = alltrue([
      for subscriber in values(var.subscribers) :
      subscriber.endpoint == null || can(regex("^https://[^/]+", subscriber.endpoint))
    ])
    error_message = "An endpoint is an https URL."
  }
  validation {
    condition = alltrue([
      for subscriber in values(var.subscribers) :
      subscriber.service_account == null
      || can(regex("^[^@ ]+@[^@ ]+[.]gserviceaccount[.]com$", subscriber.service_account))
    ])
    error_message = "A service_account is its e-mail address: name@project.iam.gserviceaccount.com."
  }
  validation {
    condition = alltrue([
      for subscriber in values(var.subscribers) :
      subscriber.ack_deadline_seconds >= 10 && subscriber.ack_deadline_seconds <= 600
    ])
    error_message = "ack_deadline_seconds is 10 to 600, as Pub/Sub allows."
  }
  validation {
    condition = alltrue(
      flatten([
        for subscriber in values(var.subscribers) :
        [for event in subscriber.events : can(regex("^[A-Za-z0-9._-]+\\*?$", event))]
      ])
    )
    error_message = "events are names such as deployment.success, or prefixes such as deployment.*."
  }
  validation {
    condition = alltrue([
      for subscriber in values(var.subscribers) :
      length(join(" OR hasPrefix(attributes.event, )", subscriber.events)) <= 200
    ])
    error_message = "Pub/Sub allows 256 bytes for a filter: name fewer events, or a prefix."
  }
}

variable "scaling" {
  description = <<-EOT
    Number of instances of each function. min_instances above 0 avoids cold starts of jsonrpc and webhook, and is
    charged for idle time.
  EOT
  type = object({
    min_instances = optional(number, 0)
    max_instances = optional(number, 20)
  })
  default = {}
  validation {
    condition = var.scaling.min_instances >= 0 && var.scaling.max_instances >= max(
      1, var.scaling.min_instances
    ) && var.scaling.max_instances <= 1000
    error_message = "scaling: 0 <= min_instances <= max_instances <= 1000."
  }
}

variable "companion" {
  description = <<-EOT
    The WebSocket companion. enabled = false deploys neither it (so there is no /ws) nor the sandbox service.
    max_instances: default is that of scaling. (cpu and memory_gib were the size of the container with the workspaces,
    which is now the sandbox service.)
  EOT
  type = object({
    enabled       = optional(bool, true)
    max_instances = optional(number)
    cpu           = optional(number)
    memory_gib    = optional(number)
  })
  default = {}
  validation {
    condition = try(
      var.companion.max_instances >= 1 && var.companion.max_instances <= 1000, var.companion.max_instances == null
    )
    error_message = "companion.max_instances is 1 to 1000."
  }
  validation {
    condition     = var.companion.enabled || var.sandbox_image == null
    error_message = "The companion calls the sandbox service: leave companion.enabled true, or sandbox_image out."
  }
  validation {
    condition     = var.companion.cpu == null && var.companion.memory_gib == null
    error_message = "companion.cpu and companion.memory_gib are sandbox_cpu and sandbox_memory_gib now: rename them."
  }
}

variable "sandbox_mcp_servers" {
  description = <<-EOT
    If MCP_SERVERS comes from Secret Manager: the MCP servers that are programs, as JSON. The sandbox service starts
    them and has no access to the secret.
  EOT
  type        = string
  default     = null
  validation {
    condition     = var.sandbox_mcp_servers == null || can(keys(jsondecode(var.sandbox_mcp_servers)))
    error_message = "sandbox_mcp_servers is a JSON object of servers by name."
  }
}

variable "availability_goal" {
  description = <<-EOT
    Objective: the share of requests to jsonrpc, webhook and ws over 28 days whose status is not 5xx. Alerts depend on
    how fast the remaining error budget is used.
  EOT
  type        = number
  default     = 0.995
  validation {
    condition     = var.availability_goal >= 0.95 && var.availability_goal <= 0.9999
    error_message = <<-EOT
      availability_goal is from 0.95 to 0.9999. Below 0.93 the fast alert never fires, even if every request fails.
    EOT
  }
}

variable "audit_logs" {
  description = <<-EOT
    Logs who reads secrets, uses KMS keys, and reads or writes documents. Access to documents by the gateway itself is
    not logged, because the logs would cost as much as the documents. Replaces the audit settings of the project for
    these three services.
  EOT
  type        = bool
  default     = true
}

variable "alert_email" {
  description = "E-mail address for alerts. Without it, no alert is sent, and each plan shows a warning."
  type        = string
  default     = null
  validation {
    condition     = var.alert_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.alert_email))
    error_message = "alert_email is an e-mail address."
  }
}

variable "budget" {
  description = <<-EOT
    Monthly budget with alerts at 50, 90 and 100 %: the id of the billing account, and an amount in its currency.
  EOT
  type = object({
    billing_account = string
    amount          = number
  })
  default = null
  validation {
    condition = var.budget == null || can(
      regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account)
    )
    error_message = "budget.billing_account looks like 012345-6789AB-CDEF01."
  }
}

variable "bundle_dir" {
  description = <<-EOT
    Output directory of `npm run build`, relative to this folder; its functions/ and companion/ are deployed.
    (build-sandbox-image.sh builds from ../dist/sandbox.)
  EOT
  type        = string
  default     = "../dist"
}
