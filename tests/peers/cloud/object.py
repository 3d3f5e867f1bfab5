"""Puts an object and gets it, as AWS's own library finds its credentials: says whose they are and what came back."""

import boto3
from botocore.exceptions import ClientError

session = boto3.Session()
s3 = session.client("s3")
s3.create_bucket(Bucket="proof")
s3.put_object(Bucket="proof", Key="errand", Body=b"for one task")
print(s3.get_object(Bucket="proof", Key="errand")["Body"].read().decode())
print("by", session.get_credentials().method)
try:
    s3.create_bucket(Bucket="other")
    print("more than the role allows")
except ClientError as error:
    print("other:", error.response["Error"]["Code"])
