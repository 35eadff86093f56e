"""An asyncio-native plugin supervisor that speaks hashicorp/go-plugin's wire protocol."""
