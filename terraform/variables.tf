# Everything an operator may decide. Whatever is not here has one right value, beside the resource it belongs to.

variable "project_id" {
  description = "Google Cloud project to deploy into; billing must be enabled."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is the id of a project: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of everything regional. firebase.json names the same one for the Hosting rewrites."
  type        = string
  default     = "us-central1"
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region is a Google Cloud region such as us-central1."
  }
}

variable "firestore_location" {
  description = <<-EOT
    Location of the database, which can never be changed: a region, or nam5 or eur3 for several. Default: region.
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
    Id of the Firestore database. Another one only after a restore, which always makes a new database (OPERATIONS.md,
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
    Keep the database when Terraform plans to delete it. `terraform destroy` erases data only after an apply with
    false.
  EOT
  type        = bool
  default     = true
}

variable "public_access" {
  description = <<-EOT
    true: the endpoints are public, and the API key or signature decides. false: for health and jsonrpc Google IAM
    first asks for an ID token of one of `invokers`, in the header X-Serverless-Authorization. webhook and ws are
    reached by senders and browsers that have none, and go on checking keys, signatures and tickets alone.
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
    How a public endpoint is opened. iam: Cloud Run checks the invoker, and `allUsers` is one. disabled: Cloud Run does
    not check, and no `allUsers` grant is made anywhere, as an organisation with domain-restricted sharing (the default
    of newer ones) demands; needs gcloud where Terraform runs, because a function has no argument for it.
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
    Where prompts run. companion (the default): on the companion, whose CPU goes on when the client has left. function:
    on jsonrpc, which is paid by request; the platform may take the CPU from a turn whose client has left. Without a
    companion: function.
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
    latest: a new revision of a function serves at once. held: it gets no request until `gcloud run services
    update-traffic` sends it some (a canary; never on the first apply).
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
    Host name for a load balancer with all four endpoints and Cloud Armor (about 18 USD a month). Default: none.
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
    Container image of the sandbox service, by digest, as build-sandbox-image.sh prints it. Default: there is no such
    service, and commands, terminals, local MCP servers and Codex are answered with 403.
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
    Most instances of the sandbox service. An owner's files, terminals and MCP servers are on one of them, and Cloud Run
    cannot route a companion's connection to a given one: leave it at 1, and give the one more cpu and memory.
  EOT
  type        = number
  default     = 1
  validation {
    condition = (
      var.sandbox_instances >= 1 && var.sandbox_instances <= 10 && floor(var.sandbox_instances) == var.sandbox_instances
    )
    error_message = "sandbox_instances is a whole number from 1 to 10."
  }
}

variable "sandbox_cpu" {
  description = <<-EOT
    CPUs of an instance of the sandbox service: all commands that run at a time share them. 2, so that one busy command
    does not stop the service's own process.
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
    Memory of an instance of the sandbox service in GiB, for processes (a Codex process has 141 MiB) and for all files:
    the file system of Cloud Run is memory, and the disk limits of workspaces are derived from this number.
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
    Open the internet to the sandbox service, for MCP servers registered with "network": true. Everything else in it
    still has no network; but what breaks out of its sandbox then has one, too.
  EOT
  type        = bool
  default     = false
}

variable "ws_image" {
  description = <<-EOT
    No longer used: the image of the companion of earlier releases. The companion needs none; what ran in it is
    sandbox_image now (terraform/README.md, upgrade). Ignored beside sandbox_image.
  EOT
  type        = string
  default     = null
  validation {
    condition     = var.ws_image == null || var.sandbox_image != null
    error_message = <<-EOT
      ws_image was the companion's image, which has become the sandbox service: run `npm run build` and
      terraform/build-sandbox-image.sh, put the sandbox_image line that it prints in the place of ws_image, and plan
      again. Without either, commands, terminals, local MCP servers and Codex are answered with 403.
    EOT
  }
}

variable "limits" {
  description = "Calls per API key that has no limits of its own."
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
    Megabytes of messages that an API key may keep; a prompt beyond it is refused until sessions are deleted.
  EOT
  type        = number
  default     = 1024
  validation {
    condition     = var.storage_mb >= 1 && floor(var.storage_mb) == var.storage_mb
    error_message = "storage_mb is a whole number of megabytes, at least 1."
  }
}

variable "webhook_limits" {
  description = "Calls per webhook secret. GitHub does not repeat what a limit has refused."
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
    Default model, provider/model. Default: of the first provider with credentials; Vertex AI always has them.
  EOT
  type        = string
  default     = null
  validation {
    condition = var.model == null || can(
      regex("^((anthropic|openai|google|codex)/\\S+|offline/(echo|slow))$", var.model)
    )
    error_message = "model is anthropic/..., openai/..., google/..., codex/..., offline/echo or offline/slow."
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
    Further settings of the gateway (BFF_BASE_URL, MCP_SERVERS, ANTHROPIC_BASE_URL, ...), by variable name. Never a
    secret.
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
    condition = length(
      setintersection(keys(var.environment), ["PORT", "HOST", "K_SERVICE", "FUNCTION_TARGET", "GOOGLE_CLOUD_PROJECT"])
    ) == 0
    error_message = "PORT, HOST, K_SERVICE, FUNCTION_TARGET and GOOGLE_CLOUD_PROJECT are set by the deployment."
  }
}

variable "secret_environment" {
  description = <<-EOT
    Which version of which secret the gateway gets: {ANTHROPIC_API_KEY = "1"}. The secrets are made by the first
    apply; add the value with `gcloud secrets versions add`, then name its version here. A rotation is a new number.
  EOT
  type        = map(string)
  default     = {}
  validation {
    condition = length(
      setsubtract(
        keys(var.secret_environment), ["ANTHROPIC_API_KEY", "MCP_SERVERS", "OPENAI_API_KEY", "WEBHOOK_SECRETS"]
      )
    ) == 0
    error_message = "secret_environment accepts ANTHROPIC_API_KEY, MCP_SERVERS, OPENAI_API_KEY and WEBHOOK_SECRETS."
  }
  validation {
    condition     = length(setintersection(keys(var.secret_environment), keys(var.environment))) == 0
    error_message = "A variable is either in environment or in secret_environment."
  }
  validation {
    condition     = alltrue([for version in values(var.secret_environment) : can(regex("^[1-9][0-9]*$", version))])
    error_message = <<-EOT
      A version is its number. "latest" would be the newest version even when that is disabled, and no instance
      could start.
    EOT
  }
}

variable "subscribers" {
  description = <<-EOT
    Who else gets the events, by subscription name: `endpoint` (HTTPS, pushed with an OIDC token of the gateway-push
    account) or `service_account` (pulls). `events` filters by event name; a trailing * matches a prefix; none means
    all. A subscriber sees an event at least once and knows it again by the attribute ce-id.
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
      A subscriber's name is 3 to 63 lower-case letters, digits and hyphens; deployments and dead-letters are
      taken.
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
    Instances of each function. min_instances above 0 removes cold starts of jsonrpc and webhook and costs their
    idle time.
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
    The WebSocket companion. enabled = false leaves it out, with /ws and the sandbox service. max_instances is that of
    scaling unless given. (cpu and memory_gib were the size of the container with the workspaces, which is the sandbox
    service now.)
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
    The programs among the MCP servers, as JSON, when MCP_SERVERS comes from Secret Manager: the sandbox service starts
    them, and gets no secret.
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
    Share of the requests to jsonrpc, webhook and ws, over 28 days, that are not answered with 5xx. Alerts follow the
    speed at which the rest is used up.
  EOT
  type        = number
  default     = 0.995
  validation {
    condition     = var.availability_goal >= 0.9 && var.availability_goal <= 0.9999
    error_message = "availability_goal is from 0.9 to 0.9999."
  }
}

variable "audit_logs" {
  description = <<-EOT
    Log who reads secrets, uses keys of Cloud KMS and reads or writes documents. The gateway's own reads and writes of
    documents are left out: they would cost as much as the documents. Takes over the project's settings for these three
    services.
  EOT
  type        = bool
  default     = true
}

variable "alert_email" {
  description = "Address that receives the alerts. Without it none is sent, as each plan and the output `alerts` say."
  type        = string
  default     = null
  validation {
    condition     = var.alert_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.alert_email))
    error_message = "alert_email is an e-mail address."
  }
}

variable "budget" {
  description = <<-EOT
    Monthly budget with alerts at 50, 90 and 100 %: the billing account's id and an amount in its currency.
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
    Where `npm run build` wrote the bundles, relative to this folder: functions/ and companion/ in it are deployed.
    (build-sandbox-image.sh builds from ../dist/sandbox.)
  EOT
  type        = string
  default     = "../dist"
}
