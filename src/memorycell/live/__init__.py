"""gone"""
