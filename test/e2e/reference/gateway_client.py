#!/usr/bin/env python3
"""
Codex Gateway Test Client
"""
import os
import json
import requests
from typing import Dict, Any, Optional

class CodexGatewayClient:
    def __init__(self, gateway_url: str, api_key: str):
        self.gateway_url = gateway_url
        self.api_key = api_key
        self.headers = {
            "X-API-Key": api_key,
            "Content-Type": "application/json"
        }

    def health_check(self) -> Dict[str, Any]:
        """Check gateway health"""
        response = requests.get(f"{self.gateway_url}/health")
        return response.json()

    def jsonrpc_call(self, method: str, params: Dict[str, Any], req_id: int = 1) -> Dict[str, Any]:
        """Make a JSON-RPC call"""
        payload = {
            "jsonrpc": "2.0",
            "method": method,
            "params": params,
            "id": req_id
        }
        response = requests.post(
            f"{self.gateway_url}/jsonrpc",
            headers=self.headers,
            json=payload
        )
        return response.json()

    def conversation_prompt(self, prompt: str, session_id: str = None) -> Dict[str, Any]:
        """Execute AI prompt (conversation.prompt)"""
        params = {"prompt": prompt}
        if session_id:
            params["session_id"] = session_id
        return self.jsonrpc_call("conversation.prompt", params)

    def conversation_status(self, session_id: str) -> Dict[str, Any]:
        """Get conversation status"""
        return self.jsonrpc_call("conversation.status", {"session_id": session_id})

    def conversation_cancel(self, session_id: str) -> Dict[str, Any]:
        """Cancel conversation"""
        return self.jsonrpc_call("conversation.cancel", {"session_id": session_id})

    def webhook(self, event: str, data: Dict[str, Any]) -> Dict[str, Any]:
        """Send webhook event"""
        payload = {
            "event": event,
            "timestamp": "2025-01-13T10:30:00Z",
            "data": data
        }
        response = requests.post(
            f"{self.gateway_url}/webhook",
            headers=self.headers,
            json=payload
        )
        return response.json()

# Exemplo de uso
if __name__ == "__main__":
    GATEWAY_URL = "https://wrapper-uamdjcvg7q-uc.a.run.app"
    GATEWAY_KEY = os.getenv("GATEWAY_KEY")

    client = CodexGatewayClient(GATEWAY_URL, GATEWAY_KEY)

    # Teste 1: Health check
    print("=== Health Check ===")
    health = client.health_check()
    print(json.dumps(health, indent=2))

    # Teste 2: AI Prompt (método REAL implementado)
    print("\n=== AI Prompt (conversation.prompt) ===")
    result = client.conversation_prompt(
        "Write a simple hello world function in Python",
        session_id="python-test-session"
    )
    print(json.dumps(result, indent=2))

    # Teste 3: Conversation Status
    print("\n=== Conversation Status ===")
    status = client.conversation_status("python-test-session")
    print(json.dumps(status, indent=2))

    # Teste 4: Cancel Conversation
    print("\n=== Cancel Conversation ===")
    cancel = client.conversation_cancel("python-test-session")
    print(json.dumps(cancel, indent=2))

    # Teste 5: Invalid method (erro esperado)
    print("\n=== Invalid Method ===")
    try:
        result = client.jsonrpc_call("invalid_method", {})
        print(json.dumps(result, indent=2))
    except Exception as e:
        print(f"Error: {e}")
