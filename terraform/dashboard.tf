# The dashboard of the operator, and the log-based metrics that only the dashboard uses.

# Metrics of the log line of each call (shared/gateway.ts): the number of calls, their outcome and duration.
resource "google_logging_metric" "calls" {
  name        = "gateway/calls"
  description = "Calls by method and outcome"
  filter      = "${local.gateway_logs} AND jsonPayload.message=\"call\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    labels {
      key = "method"
    }
    labels {
      key = "outcome"
    }
  }
  label_extractors = {
    method  = "EXTRACT(jsonPayload.method)"
    outcome = "EXTRACT(jsonPayload.outcome)"
  }
  depends_on = [time_sleep.apis]
}

resource "google_logging_metric" "call_ms" {
  name            = "gateway/call_ms"
  description     = "Duration of a call in milliseconds, including the model"
  filter          = "${local.gateway_logs} AND jsonPayload.message=\"call\""
  value_extractor = "EXTRACT(jsonPayload.ms)"
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "ms"
    labels {
      key = "method"
    }
  }
  label_extractors = { method = "EXTRACT(jsonPayload.method)" }
  bucket_options {
    exponential_buckets {
      num_finite_buckets = 40
      growth_factor      = 1.5
      scale              = 0.1
    }
  }
  depends_on = [time_sleep.apis]
}

locals {
  # For each chart: title, filter, aligner, reducer, and the label of the lines.
  charts = [
    ["Requests per second by service", local.requests, "ALIGN_RATE", "REDUCE_SUM", "resource.label.service_name"],
    [
      "5xx per second by service",
      "${local.requests} AND metric.labels.response_code_class = \"5xx\"",
      "ALIGN_RATE",
      "REDUCE_SUM",
      "resource.label.service_name"
    ],
    [
      "Request latency p99 by service, ms",
      replace(local.requests, "request_count", "request_latencies"),
      "ALIGN_PERCENTILE_99",
      "REDUCE_MAX",
      "resource.label.service_name"
    ],
    [
      "Instances by service",
      replace(local.requests, "request_count", "container/instance_count"),
      "ALIGN_MAX",
      "REDUCE_SUM",
      "resource.label.service_name"
    ],
    [
      "Calls by outcome",
      join(" AND ", [
        "resource.type = \"cloud_run_revision\"",
        "metric.type = \"logging.googleapis.com/user/${google_logging_metric.calls.name}\""
      ]),
      "ALIGN_RATE",
      "REDUCE_SUM",
      "metric.label.outcome"
    ],
    [
      "Call time p95 by method, ms",
      join(" AND ", [
        "resource.type = \"cloud_run_revision\"",
        "metric.type = \"logging.googleapis.com/user/${google_logging_metric.call_ms.name}\""
      ]),
      "ALIGN_PERCENTILE_95",
      "REDUCE_MAX",
      "metric.label.method"
    ],
    [
      "Firestore operations per second",
      join(" AND ", [
        "resource.type = \"firestore.googleapis.com/Database\"",
        "metric.type = \"firestore.googleapis.com/document/write_ops_count\""
      ]),
      "ALIGN_RATE",
      "REDUCE_SUM",
      "metric.label.op"
    ],
    [
      "Unacknowledged events by subscription",
      join(" AND ", [
        "resource.type = \"pubsub_subscription\"",
        "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      ]),
      "ALIGN_MAX",
      "REDUCE_SUM",
      "resource.label.subscription_id"
    ],
  ]
}

resource "google_monitoring_dashboard" "gateway" {
  dashboard_json = jsonencode({
    displayName = "Codex Gateway"
    # A grid, because the API returns the positions of mosaic tiles without zeros, so that every plan would show a
    # difference.
    gridLayout = {
      columns = "2"
      widgets = [for chart in local.charts : {
        title = chart[0]
        xyChart = {
          dataSets = [{
            plotType = "LINE"
            timeSeriesQuery = {
              timeSeriesFilter = {
                filter = chart[1]
                aggregation = {
                  alignmentPeriod    = "60s"
                  perSeriesAligner   = chart[2]
                  crossSeriesReducer = chart[3]
                  groupByFields      = [chart[4]]
                }
              }
            }
          }]
        }
      }]
    }
  })
  depends_on = [time_sleep.apis]
}
