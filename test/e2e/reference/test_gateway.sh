#!/bin/bash
# test_gateway.sh - Suite completa de testes dos métodos REAIS
set -euo pipefail
# Configuração
GATEWAY_URL="https://wrapper-uamdjcvg7q-uc.a.run.app"
GATEWAY_KEY=$(gcloud secrets versions access latest --secret=gateway-api-key)
# Cores para output
GREEN='\033[0;32m'
RED='\033[0;31m'
YELLOW='\033[1;33m'
NC='\033[0m' # No Color
# Função de teste
test_endpoint() {
local name="$1"
local method="$2"
local payload="$3"
echo -e "${YELLOW}Testing: $name${NC}"
response=$(curl -s -X POST "$GATEWAY_URL$method" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d "$payload")
if echo "$response" | jq -e . >/dev/null 2>&1; then
echo -e "${GREEN}✓ Success${NC}"
echo "$response" | jq .
else
echo -e "${RED}✗ Failed${NC}"
echo "$response"
fi
echo ""
}
# Teste 1: Health Check
echo -e "${YELLOW}Test 1: Health Check${NC}"
health=$(curl -s "$GATEWAY_URL/health")
if [ "$(echo $health | jq -r .status)" = "healthy" ]; then
echo -e "${GREEN}✓ Health check passed${NC}"
else
echo -e "${RED}✗ Health check failed${NC}"
fi
echo ""
# Teste 2: conversation.prompt (método REAL implementado)
test_endpoint "AI Prompt (conversation.prompt)" "/jsonrpc" '{
"jsonrpc": "2.0",
"method": "conversation.prompt",
"params": {
"prompt": "Write a simple hello world function in Python",
"session_id": "test-session-001"
},
"id": 1
}'
# Teste 3: conversation.status
test_endpoint "Check Conversation Status" "/jsonrpc" '{
"jsonrpc": "2.0",
"method": "conversation.status",
"params": {
"session_id": "test-session-001"
},
"id": 2
}'
# Teste 4: conversation.cancel
test_endpoint "Cancel Conversation" "/jsonrpc" '{
"jsonrpc": "2.0",
"method": "conversation.cancel",
"params": {
"session_id": "test-session-001"
},
"id": 3
}'
# Teste 5: Invalid Method (erro esperado)
test_endpoint "Invalid Method (should fail)" "/jsonrpc" '{
"jsonrpc": "2.0",
"method": "nonexistent_method",
"params": {},
"id": 4
}'
echo -e "${GREEN}All tests completed!${NC}"
