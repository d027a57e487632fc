#!/bin/bash
# The requests of the reference document for the implemented endpoints, as printed there; one JSON answer per line.
set -euo pipefail

curl "$GATEWAY_URL/health"
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "conversation.prompt",
"params": {
"prompt": "Write a Rust function that adds two numbers",
"session_id": "my-session-123"
},
"id": 1
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "conversation.status",
"params": {
"session_id": "my-session-123"
},
"id": 2
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "conversation.cancel",
"params": {
"session_id": "my-session-123"
},
"id": 3
}'
echo
curl -X POST "$GATEWAY_URL/webhook" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"event": "deployment.success",
"timestamp": "2025-01-13T10:30:00Z",
"data": {
"service": "wrapper",
"version": "486a13c9",
"region": "us-central1",
"status": "healthy"
}
}'
echo
